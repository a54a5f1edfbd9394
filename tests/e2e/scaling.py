"""A Ray that scales itself on this machine: what it adds are nodes in name alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.service import until
from tunesmith.cluster.head_process import HeadFolder, free_ports
from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.domain.errors import ClusterUnavailableError

_HEAD_ID = "f" * 51 + "00000"
"""What Ray's provider of such nodes takes the head's id to be."""


class _ScalingHead(HeadFolder):
    """A head whose autoscaler, Ray's second, adds nodes of `big` with 4 processors."""

    def __init__(self, folder: Path, *, idle_seconds: int) -> None:
        super().__init__(folder)
        [self._gcs] = free_ports(1)
        self._config = folder.parent / "autoscaler.json"
        self._config.write_text(json.dumps(self._autoscaler(idle_seconds)))

    def _autoscaler(self, idle_seconds: int) -> dict[str, object]:
        commands = ("setup", "head_setup", "worker_setup", "initialization")
        starts = ("head_start_ray", "worker_start_ray")
        resources = {"CPU": 4, "object_store_memory": 80 * 2**20}
        return {
            "cluster_name": "here",
            "max_workers": 2,
            "idle_timeout_minutes": idle_seconds / 60,
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "big": {
                    "resources": resources,
                    "node_config": {},
                    "min_workers": 0,
                    "max_workers": 1,
                },
            },
            "provider": {
                # The provider is in Ray's package, but not the defaults of its own name.
                "type": "external",
                "module": "ray.autoscaler._private.fake_multi_node.node_provider."
                "FakeMultiNodeProvider",
                "gcs_address": f"127.0.0.1:{self._gcs}",
                "head_node_id": _HEAD_ID,
                "launch_multiple": True,
            },
            "auth": {"ssh_user": "nobody"},
            "file_mounts": {},
            "cluster_synced_files": [],
            "file_mounts_sync_continuously": False,
            **{f"{name}_commands": [] for name in (*commands, *starts)},
        }

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
        }

    def _command(self, dashboard: tuple[str, int], client_port: int) -> list[str]:
        usual = super()._command(dashboard, client_port)
        kept = [word for word in usual if not word.startswith(("--port=", "--num-cpus="))]
        return [
            *kept,
            f"--port={self._gcs}",
            "--num-cpus=0",
            "--node-ip-address=127.0.0.1",
            f"--autoscaling-config={self._config}",
        ]


class ScalingRay:
    """It, and what leads a service to it."""

    def __init__(self, address: str, folder: HeadFolder, token: Path) -> None:
        self.jobs = RayJobs(address, python=sys.executable, token=folder.token())
        group = {"big": {"most": 1, "resources": {"CPU": 4}}}
        self.environment = {
            "RAY_ADDRESS": address,
            "RAY_AUTH_TOKEN_PATH": str(token),
            "TUNESMITH_RAY_PYTHON": sys.executable,
            "TUNESMITH_NODE_GROUPS": json.dumps(group),
        }

    def nodes(self) -> int:
        """Return how many nodes there are, 0 while Ray is silent."""
        try:
            return len(self.jobs.resources().nodes)
        except ClusterUnavailableError:
            return 0

    def free(self) -> float:
        """Return how many processors nothing holds."""
        return self.jobs.resources().free_cpus


@contextmanager
def scaling_ray(folder: Path, *, idle_seconds: int) -> Iterator[ScalingRay]:
    """Have one while the block lasts, at first of a head without processors alone.

    A node leaves when nothing has run on it for `idle_seconds`.
    """
    folder.mkdir()
    head_folder = _ScalingHead(folder / "ray", idle_seconds=idle_seconds)
    head = head_folder.launch()
    try:
        ray = ScalingRay(head.address, head_folder, folder / "ray" / "token")
        until(lambda: ray.nodes() == 1, 60)
        yield ray
    finally:
        head_folder.end()

"""A Ray cluster of several machines, each of which is a network namespace of this one.

Each has its own address on a bridge, so that a machine can be cut off or vanish. It takes root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from e2e.service import until
from tunesmith.cluster.protocol import Node
from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.domain.errors import ClusterUnavailableError

_BRIDGE = "tunesmith0"
_NETWORK = "10.213.77"
_DASHBOARD = 8265
_ADDRESS = f"http://{_NETWORK}.1:{_DASHBOARD}"
_OWN = f"/tmp/{_BRIDGE}"
_HEALTH = {
    # A machine is given up after 5 s without a sign, not after a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_JOB_STOP_WAIT_TIME_S": "4",
}


def possible() -> bool:
    """Tell whether this process may make network namespaces."""
    if shutil.which("ip") is None:
        return False
    tried = subprocess.run(
        ["ip", "netns", "add", "tunesmith-try"], check=False, capture_output=True
    )
    if tried.returncode == 0:
        _run("ip", "netns", "delete", "tunesmith-try")
    return tried.returncode == 0


class Machine:
    """One of them, with a raylet of Ray's; the first is the head."""

    def __init__(self, number: int, *, folder: Path, cpus: int, token: Path) -> None:
        self.name = f"tunesmith{number}"
        self.address = f"{_NETWORK}.{number}"
        self._head, self._cpus = number == 1, cpus
        self._folder = folder / self.name
        self._folder.mkdir()
        self._environment = {
            **{name: text for name, text in os.environ.items() if name[:4] != "RAY_"},
            **_HEALTH,
            "TMPDIR": _OWN,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, without: Path | None = None) -> None:
        """Start it, `without` a folder that the others have."""
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self.name, "type", "veth", "peer", "eth0", "netns", self.name)
        _run("ip", "link", "set", self.name, "master", _BRIDGE, "up")
        for command in (
            f"ip address add {self.address}/24 dev eth0",
            "ip link set eth0 up",
            "ip link set lo up",
        ):
            _run("ip", "netns", "exec", self.name, *command.split())
        # What is kept of a machine alone, such as Ray's files and the warm process's socket.
        mounts = f"mkdir -p {_OWN} && mount --bind {self._folder} {_OWN}"
        if without is not None:
            mounts += f" && mount -t tmpfs none {without}"
        where = f"--head --port=6379 --dashboard-host=0.0.0.0 --dashboard-port={_DASHBOARD}"
        if not self._head:
            where = f"--address={_NETWORK}.1:6379"
        start = (
            f"{mounts} && exec {sys.executable} -m ray.scripts.scripts start --block "
            f"--disable-usage-stats --node-ip-address={self.address} --num-cpus={self._cpus} "
            f"--temp-dir={_OWN} --object-store-memory={80 * 2**20} {where}"
        )
        with (self._folder / "printed").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    self.name,
                    "unshare",
                    "--mount",
                    "sh",
                    "-c",
                    f"{mounts} && {start}",
                ],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def vanish(self) -> None:
        """End all of its processes at once, as a power cut does."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process is not None:
            self._process.wait()

    def processes(self) -> list[psutil.Process]:
        """Return the processes that run there."""
        if not Path("/run/netns", self.name).exists():
            return []
        told = _run("ip", "netns", "pids", self.name)
        return [
            psutil.Process(int(number)) for number in told.split() if psutil.pid_exists(int(number))
        ]

    def remove(self) -> None:
        """Leave nothing of it behind."""
        self.vanish()
        until(lambda: not self.processes(), 20)
        # A namespace goes only some time after it is deleted, and would keep its name taken.
        _run("ip", "link", "delete", self.name)
        _run("ip", "netns", "delete", self.name)


class Machines:
    """The cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._token = folder / "token"
        self._token.write_text(secrets.token_hex(32))
        self._there: list[Machine] = []
        self._cut_off: list[Machine] = []
        self._count = 0
        self._jobs = RayJobs(_ADDRESS, python=sys.executable, token=self._token.read_text())

    @property
    def environment(self) -> dict[str, str]:
        """What leads a service to it."""
        return {
            "RAY_ADDRESS": _ADDRESS,
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "TUNESMITH_RAY_PYTHON": sys.executable,
        }

    def add(self, *, cpus: int, without: Path | None = None) -> Machine:
        """Start one more machine, and return when Ray knows it."""
        self._count += 1
        machine = Machine(self._count, folder=self._folder, cpus=cpus, token=self._token)
        self._there.append(machine)
        machine.start(without=without)
        until(lambda: len(self._nodes()) == len(self._there), 60)
        return machine

    def take_away(self, machine: Machine) -> None:
        """Remove `machine`, and return when Ray has given it up."""
        machine.remove()
        self._there.remove(machine)
        until(lambda: len(self._nodes()) == len(self._there), 60)

    def cut_off(self, machine: Machine) -> None:
        """Let nothing reach `machine`, all of whose processes go on, until Ray has given it up."""
        _run("ip", "link", "set", machine.name, "down")
        self._there.remove(machine)
        self._cut_off.append(machine)
        until(lambda: len(self._nodes()) == len(self._there), 60)

    def remove(self) -> None:
        """Leave nothing behind."""
        for machine in (*self._there, *self._cut_off):
            machine.remove()

    def _nodes(self) -> tuple[Node, ...]:
        try:
            return self._jobs.resources().nodes
        except ClusterUnavailableError:
            return ()


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    """Have a cluster while the block lasts, at first of a head without processors alone."""
    folder.mkdir()
    _run("ip", "link", "add", _BRIDGE, "type", "bridge")
    try:
        _run("ip", "address", "add", f"{_NETWORK}.254/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")
        cluster = Machines(folder)
        try:
            cluster.add(cpus=0)
            yield cluster
        finally:
            cluster.remove()
    finally:
        _run("ip", "link", "delete", _BRIDGE)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

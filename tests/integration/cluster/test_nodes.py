"""The program that asks for nodes, on a Ray that cannot grow."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import pytest

from integration.cluster.conftest import await_true
from tunesmith.cluster.head_process import HeadFolder
from tunesmith.cluster.local_head import LocalRay
from tunesmith.cluster.protocol import Submission, SubmissionState
from tunesmith.cluster.ray_jobs import RayJobs


class Asking:
    """Runs the program, and sees what Ray makes of it."""

    def __init__(self, folder: HeadFolder) -> None:
        head = folder.find()
        assert head is not None
        self._address, self._token = head.address, folder.token()
        self.jobs = RayJobs(head.address, python=sys.executable, token=self._token)

    def ask(self, name: str, *nodes: tuple[int, dict[str, float]]) -> None:
        command = ("python", "-m", "tunesmith.cluster.nodes", json.dumps(nodes))
        self.jobs.submit(Submission(id=name, command=command, cpus=0))

    def stands(self, name: str) -> SubmissionState:
        status = self.jobs.status(name)
        assert status is not None
        return status.state

    def pending(self) -> list[object]:
        """What Ray looks for a place for, which is what its autoscalers act on."""
        asked = urllib.request.Request(
            f"{self._address}/api/v0/placement_groups?detail=1",
            headers={"Authorization": f"Bearer {self._token}"},
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            groups = json.load(answer)["data"]["result"]["result"]
        return [
            bundle["unit_resources"]
            for group in groups
            if group["state"] == "PENDING"
            for bundle in group["bundles"]
        ]


@pytest.fixture
def asking(shared_folder: Path, shared_head: LocalRay) -> Asking:
    return Asking(HeadFolder(shared_folder))


def test_what_no_node_has_is_asked_for_until_the_program_is_stopped(asking: Asking) -> None:
    asking.ask("more", (1, {"CPU": 1.0}), (2, {"CPU": 640.0}))
    await_true(lambda: asking.pending() == [{"CPU": 640.0}] * 2)
    assert asking.stands("more") is SubmissionState.RUNNING

    asking.jobs.stop("more")

    await_true(lambda: asking.pending() == [])
    await_true(lambda: asking.stands("more") is SubmissionState.STOPPED)


def test_it_ends_and_holds_nothing_when_all_have_come(asking: Asking) -> None:
    free = asking.jobs.resources().free_cpus
    asking.ask("enough", (2, {"CPU": 1.0}))
    await_true(lambda: asking.stands("enough") is SubmissionState.SUCCEEDED)
    await_true(lambda: asking.jobs.resources().free_cpus == free)

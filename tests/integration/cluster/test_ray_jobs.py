"""Ray's Jobs API keeps the contract."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from integration.cluster.conftest import await_true
from tunesmith.cluster.head_process import HeadFolder
from tunesmith.cluster.local_head import LocalRay
from tunesmith.cluster.protocol import SubmissionState
from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.domain.errors import ClusterUnavailableError
from unit.cluster.contract import ENDLESS, ClusterContract, Stage, python


class RayStage(Stage):
    """Waits for what Ray does by itself."""

    def __init__(self, cluster: RayJobs) -> None:
        self.cluster = cluster

    def reach(self, submission_id: str, state: SubmissionState, *, printed: str = "") -> None:
        def reached() -> bool:
            status = self.cluster.status(submission_id)
            assert status is not None
            assert status.state is state or not status.state.ended, status.message
            return status.state is state and printed in self.cluster.logs(submission_id)

        await_true(reached)


class TestRayJobs(ClusterContract):
    @pytest.fixture
    def stage(self, shared_folder: Path, shared_head: LocalRay) -> Stage:
        folder = HeadFolder(shared_folder)
        head = folder.find()
        assert head is not None
        return RayStage(RayJobs(head.address, python=sys.executable, token=folder.token()))

    def wait_for_free_cpus(self, stage: Stage, expected: float) -> None:
        await_true(lambda: stage.cluster.resources().free_cpus == expected)

    def test_a_program_that_ignores_sigterm_is_killed(self, stage: Stage) -> None:
        job = python(f"import signal; signal.signal(15, signal.SIG_IGN); {ENDLESS}")
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.RUNNING, printed="at work\n")
        stage.cluster.stop(job.id)
        stage.reach(job.id, SubmissionState.STOPPED)

    def test_a_program_sees_sigterm_first(self, stage: Stage) -> None:
        job = python(
            "import signal, sys\n"
            "def leave(*_):\n    print('saved')\n    sys.exit()\n"
            f"signal.signal(15, leave)\n{ENDLESS}"
        )
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.RUNNING, printed="at work\n")
        stage.cluster.stop(job.id)
        stage.reach(job.id, SubmissionState.STOPPED, printed="saved\n")

    def test_a_program_that_is_killed_has_failed_with_its_signal(self, stage: Stage) -> None:
        job = python("import os; os.kill(os.getpid(), 9)")
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.FAILED)
        status = stage.cluster.status(job.id)
        assert status is not None
        assert "exit code -9" in status.message

    def test_a_wrong_token_is_an_unavailable_cluster(
        self, shared_folder: Path, shared_head: LocalRay
    ) -> None:
        head = HeadFolder(shared_folder).find()
        assert head is not None
        with pytest.raises(ClusterUnavailableError, match="another token"):
            RayJobs(head.address, python="python", token="wrong").status("a")

"""What every `Cluster` does; the fake and Ray itself are held to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from uuid import uuid4

import pytest

from tunesmith.cluster.protocol import Cluster, Submission, SubmissionState


class Stage(ABC):
    """A cluster to test, and a way to see its submissions come to a state."""

    cluster: Cluster
    """The cluster under test."""

    @abstractmethod
    def reach(self, submission_id: str, state: SubmissionState, *, printed: str = "") -> None:
        """Return when the submission is in `state` and has printed `printed`.

        Raises `AssertionError` where it does not come to that.
        """


ENDLESS = "import time; print('at work'); time.sleep(600)"
"""A program that goes on until it is stopped."""


def python(program: str, *, cpus: float = 1.0) -> Submission:
    """Return a submission of a Python program, with a fresh id."""
    return Submission(id=f"job-{uuid4().hex}-1", command=("python", "-c", program), cpus=cpus)


class ClusterContract:
    """The tests; a subclass gives the fixture `stage`."""

    def test_a_submission_runs_prints_and_succeeds(self, stage: Stage) -> None:
        job = python("print('hello from', 'the job')")
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.SUCCEEDED, printed="hello from the job\n")
        assert "hello from the job\n" in stage.cluster.logs(job.id)

    def test_of_what_it_printed_the_last_lines_can_be_asked_for(self, stage: Stage) -> None:
        job = python("print('first'); print('second'); print('third')")
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.SUCCEEDED, printed="first\nsecond\nthird\n")
        assert stage.cluster.logs(job.id, lines=2) == "second\nthird\n"

    def test_a_submission_whose_program_fails_has_failed_and_says_why(self, stage: Stage) -> None:
        job = python("raise SystemExit(3)")
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.FAILED)
        status = stage.cluster.status(job.id)
        assert status is not None
        assert status.state.ended
        assert "exit code 3" in status.message

    def test_the_same_id_is_started_once(self, stage: Stage) -> None:
        job = python(ENDLESS)
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.RUNNING)
        stage.cluster.submit(job.model_copy(update={"command": ("false",)}))
        status = stage.cluster.status(job.id)
        assert status is not None
        assert status.state is SubmissionState.RUNNING
        stage.cluster.stop(job.id)

    def test_an_ended_id_is_not_started_again(self, stage: Stage) -> None:
        job = python("print('once')")
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.SUCCEEDED, printed="once\n")
        stage.cluster.submit(job)
        status = stage.cluster.status(job.id)
        assert status is not None
        assert status.state is SubmissionState.SUCCEEDED
        assert stage.cluster.logs(job.id).count("once\n") == 1

    def test_a_stopped_submission_ends_as_stopped(self, stage: Stage) -> None:
        job = python(ENDLESS)
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.RUNNING, printed="at work\n")
        stage.cluster.stop(job.id)
        stage.reach(job.id, SubmissionState.STOPPED)
        assert "at work\n" in stage.cluster.logs(job.id)

    def test_stopping_an_ended_submission_changes_nothing(self, stage: Stage) -> None:
        job = python("pass")
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.SUCCEEDED)
        before = stage.cluster.status(job.id)
        stage.cluster.stop(job.id)
        assert stage.cluster.status(job.id) == before

    @pytest.mark.parametrize("unknown", ["job-unknown-1", "a/b", "ä?#%"])
    def test_an_unknown_id_has_no_status_and_no_logs_and_can_be_stopped(
        self, stage: Stage, unknown: str
    ) -> None:
        stage.cluster.stop(unknown)
        assert stage.cluster.status(unknown) is None
        assert stage.cluster.logs(unknown) == ""

    def test_a_running_submission_holds_its_processors(self, stage: Stage) -> None:
        nodes = stage.cluster.resources().nodes
        assert nodes
        assert all(node.cpus > 0 and node.total["memory"] > 0 for node in nodes)
        total = sum(node.cpus for node in nodes)
        self.wait_for_free_cpus(stage, total)
        job = python(ENDLESS, cpus=0.5)
        stage.cluster.submit(job)
        stage.reach(job.id, SubmissionState.RUNNING)
        status = stage.cluster.status(job.id)
        assert status is not None
        assert status.node in {node.id for node in nodes}
        self.wait_for_free_cpus(stage, total - 0.5)
        stage.cluster.stop(job.id)
        stage.reach(job.id, SubmissionState.STOPPED)
        self.wait_for_free_cpus(stage, total)

    def wait_for_free_cpus(self, stage: Stage, expected: float) -> None:
        """Check the free processors; a cluster that counts late waits here."""
        assert stage.cluster.resources().free_cpus == expected

"""The fake keeps the contract and does what a test scripts."""

from __future__ import annotations

import pytest

from tunesmith.cluster.fake import FakeCluster, empty_node
from tunesmith.cluster.protocol import Cluster, SubmissionState
from tunesmith.domain.errors import ClusterUnavailableError
from unit.cluster.contract import ClusterContract, Stage, python


class ScriptedStage(Stage):
    """Brings about what it is asked to wait for."""

    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.cluster = self.fake

    def reach(self, submission_id: str, state: SubmissionState, *, printed: str = "") -> None:
        status = self.fake.status(submission_id)
        assert status is not None
        self.fake.print(submission_id, printed)
        if state is SubmissionState.STOPPED:
            assert status.state is state
        elif state is SubmissionState.RUNNING:
            self.fake.begin(submission_id)
        else:
            self.fake.end(submission_id, state, message="failed with exit code 3")


class TestFakeCluster(ClusterContract):
    @pytest.fixture
    def stage(self) -> Stage:
        return ScriptedStage()


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def state_of(cluster: Cluster, submission_id: str) -> SubmissionState:
    status = cluster.status(submission_id)
    assert status is not None
    return status.state


def test_a_submission_waits_until_the_test_begins_it(cluster: FakeCluster) -> None:
    job = python("pass")
    cluster.submit(job)
    assert state_of(cluster, job.id) is SubmissionState.PENDING
    cluster.begin(job.id)
    assert state_of(cluster, job.id) is SubmissionState.RUNNING


def test_the_submissions_are_recorded_once_each(cluster: FakeCluster) -> None:
    first, second = python("1"), python("2")
    for job in (first, second, first):
        cluster.submit(job)
    assert cluster.submissions == [first, second]


def test_a_submission_that_does_not_obey_runs_on_until_the_test_ends_it(
    cluster: FakeCluster,
) -> None:
    job = python("pass")
    cluster.obeys_stop = False
    cluster.submit(job)
    cluster.begin(job.id)
    cluster.stop(job.id)
    assert cluster.stopped == [job.id]
    assert state_of(cluster, job.id) is SubmissionState.RUNNING
    cluster.end(job.id, SubmissionState.STOPPED)
    assert state_of(cluster, job.id) is SubmissionState.STOPPED


def test_a_cluster_that_was_lost_knows_nothing_and_takes_the_id_again(
    cluster: FakeCluster,
) -> None:
    job = python("pass")
    cluster.submit(job)
    cluster.print(job.id, "text")
    cluster.lose()
    assert cluster.status(job.id) is None
    assert cluster.logs(job.id) == ""
    cluster.submit(job)
    assert cluster.submissions == [job, job]


def test_the_resources_are_the_tests_to_set(cluster: FakeCluster) -> None:
    cluster.nodes = (empty_node("a", cpus=8), empty_node("b", cpus=4))
    job = python("pass", cpus=3)
    cluster.submit(job)
    assert cluster.resources().free_cpus == 12
    cluster.begin(job.id)
    assert cluster.resources().free_cpus == 9


def test_an_unavailable_cluster_answers_no_question(cluster: FakeCluster) -> None:
    cluster.unavailable = True
    questions = [
        lambda: cluster.submit(python("pass")),
        lambda: cluster.status("a"),
        lambda: cluster.stop("a"),
        lambda: cluster.logs("a"),
        cluster.resources,
    ]
    for question in questions:
        with pytest.raises(ClusterUnavailableError, match="Ray does not answer"):
            question()


def test_a_script_that_names_an_unknown_submission_is_refused(cluster: FakeCluster) -> None:
    with pytest.raises(KeyError, match="nobody"):
        cluster.begin("nobody")
    with pytest.raises(KeyError, match="nobody"):
        cluster.end("nobody", SubmissionState.FAILED)

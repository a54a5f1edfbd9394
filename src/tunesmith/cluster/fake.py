"""A cluster in memory, which does what a test scripts; it passes the same contract as Ray."""

from __future__ import annotations

from tunesmith.cluster.protocol import (
    Node,
    Resources,
    Submission,
    SubmissionState,
    SubmissionStatus,
)
from tunesmith.domain.errors import ClusterUnavailableError


class FakeCluster:
    """Runs nothing; submissions move only when the test says so."""

    def __init__(self) -> None:
        """Start with one node of 2 processors, nothing submitted."""
        self.nodes: tuple[Node, ...] = (Node(id="node-1", cpus=2.0, memory=8e9),)
        """The nodes that are alive; a test may set others."""
        self.unavailable = False
        """While true, each method raises `ClusterUnavailableError`."""
        self.obeys_stop = True
        """Whether a live submission ends as soon as it is asked to; else the test ends it."""
        self.submissions: list[Submission] = []
        """What was accepted, in order; `lose` does not empty it."""
        self.stopped: list[str] = []
        """Ids of the live submissions that were asked to end, in order."""
        self._known: dict[str, Submission] = {}
        self._statuses: dict[str, SubmissionStatus] = {}
        self._logs: dict[str, str] = {}

    def submit(self, submission: Submission) -> None:
        """Accept `submission` as pending; see `Cluster.submit`."""
        self._check()
        if submission.id in self._known:
            return
        self.submissions.append(submission)
        self._known[submission.id] = submission
        self._statuses[submission.id] = SubmissionStatus(state=SubmissionState.PENDING)

    def status(self, submission_id: str) -> SubmissionStatus | None:
        """Return how it stands; see `Cluster.status`."""
        self._check()
        return self._statuses.get(submission_id)

    def stop(self, submission_id: str) -> None:
        """Note the request and, where `obeys_stop`, end it; see `Cluster.stop`."""
        self._check()
        status = self._statuses.get(submission_id)
        if status is None or status.state.ended:
            return
        self.stopped.append(submission_id)
        if self.obeys_stop:
            self.end(submission_id, SubmissionState.STOPPED)

    def logs(self, submission_id: str) -> str:
        """Return what `print` gave; see `Cluster.logs`."""
        self._check()
        return self._logs.get(submission_id, "")

    def resources(self) -> Resources:
        """Return `nodes`, with what running submissions hold taken off; see `Cluster.resources`."""
        self._check()
        held = sum(
            self._known[id].cpus
            for id, status in self._statuses.items()
            if status.state is SubmissionState.RUNNING
        )
        return Resources(nodes=self.nodes, free_cpus=sum(node.cpus for node in self.nodes) - held)

    def begin(self, submission_id: str) -> None:
        """Let a pending submission run. Raises `KeyError` for an unknown id."""
        self._move(submission_id, SubmissionStatus(state=SubmissionState.RUNNING))

    def end(self, submission_id: str, state: SubmissionState, *, message: str = "") -> None:
        """End a submission as `state`, with the cluster's words. Raises `KeyError`."""
        self._move(submission_id, SubmissionStatus(state=state, message=message))

    def print(self, submission_id: str, text: str) -> None:
        """Let a submission print `text`."""
        self._logs[submission_id] = self._logs.get(submission_id, "") + text

    def lose(self) -> None:
        """Forget all submissions, as a head does that died and came back."""
        self._known.clear()
        self._statuses.clear()
        self._logs.clear()

    def _move(self, submission_id: str, status: SubmissionStatus) -> None:
        if submission_id not in self._known:
            raise KeyError(submission_id)
        self._statuses[submission_id] = status

    def _check(self) -> None:
        if self.unavailable:
            raise ClusterUnavailableError

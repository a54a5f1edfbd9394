"""A cluster in memory, which does what a test scripts; it passes the same contract as Ray."""

from __future__ import annotations

from tunesmith.cluster.protocol import (
    CPU,
    MEMORY,
    Amounts,
    Coming,
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
        self.nodes: tuple[Node, ...] = (empty_node("node-1", cpus=2.0, memory=8e9),)
        """The nodes that are alive, with nothing taken; a test may set others."""
        self.coming: tuple[Coming, ...] = ()
        """What may still be added to them."""
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
        self._held: dict[str | None, Amounts] = {}
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

    def logs(self, submission_id: str, *, lines: int = 1000) -> str:
        """Return the last of what `print` gave; see `Cluster.logs`."""
        self._check()
        printed = self._logs.get(submission_id, "").splitlines(keepends=True)
        return "".join(printed[-lines:])

    def resources(self) -> Resources:
        """Return `nodes`, with what running submissions hold taken off; see `Cluster.resources`."""
        self._check()
        return Resources(
            nodes=tuple(
                node.model_copy(update={"free": self._free(node)})
                if node.id in self._held
                else node
                for node in self.nodes
            ),
            coming=self.coming,
        )

    def begin(self, submission_id: str, *, node: str | None = None) -> None:
        """Let a pending submission run, on the node of that id or else on the first with room.

        Raises `KeyError` for an unknown id.
        """
        status = SubmissionStatus(state=SubmissionState.RUNNING)
        if submission_id in self._known:
            node = node or self._roomy(_holds(self._known[submission_id]))
        self._move(submission_id, status.model_copy(update={"node": node}))

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
        self._held.clear()
        self._logs.clear()

    def _roomy(self, wanted: Amounts) -> str | None:
        """Return the first node with room for `wanted`, or the first of all where none has."""
        for node in self.nodes:
            free = self._free(node)
            if all(free.get(name, 0.0) >= amount for name, amount in wanted.items()):
                return node.id
        return self.nodes[0].id if self.nodes else None

    def _move(self, submission_id: str, status: SubmissionStatus) -> None:
        if submission_id not in self._known:
            raise KeyError(submission_id)
        self._count(submission_id, sign=-1)
        self._statuses[submission_id] = status
        self._count(submission_id, sign=1)

    def _count(self, submission_id: str, *, sign: int) -> None:
        """Add what a submission holds to what is held on its node, or take it off."""
        status = self._statuses[submission_id]
        if status.state is SubmissionState.RUNNING:
            held = self._held.setdefault(status.node, {})
            for name, amount in _holds(self._known[submission_id]).items():
                held[name] = held.get(name, 0.0) + sign * amount

    def _free(self, node: Node) -> Amounts:
        held = self._held.get(node.id, {})
        return {name: amount - held.get(name, 0.0) for name, amount in node.total.items()}

    def _check(self) -> None:
        if self.unavailable:
            raise ClusterUnavailableError


def empty_node(node_id: str, *, cpus: float, memory: float = 1e12, **others: float) -> Node:
    """Return a node of which nothing is taken; `others` go by Ray's names of the resources."""
    amounts = {CPU: cpus, MEMORY: memory, **others}
    return Node(id=node_id, total=amounts, free=amounts)


def _holds(submission: Submission) -> Amounts:
    device = {} if submission.device is None else {submission.device: 1.0}
    return {CPU: submission.cpus, MEMORY: float(submission.memory or 0), **device}

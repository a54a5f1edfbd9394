"""One request for nodes stands, for what the queue needs at the time."""

from __future__ import annotations

import json

import pytest

from tunesmith.cluster.fake import FakeCluster, empty_node
from tunesmith.cluster.protocol import Coming, SubmissionState
from tunesmith.controller.asks import LOOK_EVERY, STEADY, Asks
from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.spec import JobRequest
from unit.controller.test_turns import told
from unit.controller.world import World

COMING = (
    Coming(name="cpus", resources={"CPU": 4.0}, more=4),
    Coming(name="cards", resources={"CPU": 8.0, "GPU": 2.0}, more=2),
)


class Hands:
    """Looks as often as it is time to, with the cluster at hand."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.asks = Asks(self.cluster)
        self.now = 100

    def need(self, **nodes: int) -> None:
        self.asks.keep(nodes, COMING, now=self.now)
        self.now += LOOK_EVERY

    @property
    def asked(self) -> list[list[list[object]]]:
        return [json.loads(each.command[-1]) for each in self.cluster.submissions]


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_a_request_holds_nothing_and_has_one_whole_node_for_each_that_is_needed(
    hands: Hands,
) -> None:
    hands.need(cards=1, cpus=2)
    [submission] = hands.cluster.submissions
    assert (submission.cpus, submission.node) == (0, None)
    assert submission.command[:3] == ("python", "-m", "tunesmith.cluster.nodes")
    assert hands.asked == [[[1, {"CPU": 8.0, "GPU": 2.0}], [2, {"CPU": 4.0}]]]


def test_nothing_is_asked_where_nothing_is_needed(hands: Hands) -> None:
    hands.need()
    assert hands.cluster.submissions == []


def test_a_request_that_stands_is_not_repeated(hands: Hands) -> None:
    for _ in range(50):
        hands.need(cpus=1)
    assert len(hands.cluster.submissions) == 1
    assert hands.cluster.stopped == []


def test_what_is_needed_no_more_is_withdrawn_at_once(hands: Hands) -> None:
    hands.need(cpus=1)
    hands.need()
    assert hands.cluster.stopped == [hands.cluster.submissions[0].id]
    hands.need()
    assert len(hands.cluster.submissions) == 1


def test_another_need_takes_its_place_once_it_stood_a_while_and_after_it_has_ended(
    hands: Hands,
) -> None:
    hands.cluster.obeys_stop = False
    hands.need(cpus=1)
    while hands.now < 100 + STEADY:
        hands.need(cpus=2)
    assert hands.cluster.stopped == []
    hands.need(cpus=2)
    hands.need(cpus=2)
    first = hands.cluster.submissions[0].id
    assert hands.cluster.stopped[0] == first
    assert len(hands.cluster.submissions) == 1
    hands.cluster.end(first, SubmissionState.STOPPED)
    hands.need(cpus=2)
    assert hands.asked == [[[1, {"CPU": 4.0}]], [[2, {"CPU": 4.0}]]]


def test_a_request_that_ended_is_made_again_while_the_need_is_there(hands: Hands) -> None:
    hands.need(cpus=1)
    hands.cluster.end(hands.cluster.submissions[0].id, SubmissionState.FAILED)
    while hands.now < 100 + STEADY:
        hands.need(cpus=1)
    assert len(hands.cluster.submissions) == 1
    hands.need(cpus=1)
    assert len({each.id for each in hands.cluster.submissions}) == 2


def test_a_request_that_ray_does_not_know_is_made_again_under_its_name(hands: Hands) -> None:
    """It was lost with the head, or on its way there; if it was not, it is not made twice."""
    hands.need(cpus=1)
    hands.cluster.lose()
    hands.need(cpus=1)
    first, again = hands.cluster.submissions
    assert first == again


def test_a_silent_cluster_is_asked_again_later(hands: Hands) -> None:
    hands.cluster.unavailable = True
    hands.need(cpus=1)
    hands.cluster.unavailable = False
    hands.need(cpus=1)
    assert len(hands.cluster.submissions) == 1


def test_a_job_runs_on_a_node_that_was_added_for_it(world: World) -> None:
    """From the wait to the launch, and what was asked is asked no more."""
    world.cluster.nodes = (empty_node("head", cpus=0),)
    world.cluster.coming = COMING
    job = world.step_until(world.add_job(request=JobRequest(cpus=4)), JobStatus.QUEUED)
    wait = told(world, job)
    assert wait is not None
    assert wait.reason.endswith("A node of 'cpus' is asked for.")
    [request] = world.cluster.submissions
    assert request.command[2] == "tunesmith.cluster.nodes"

    world.cluster.nodes += (empty_node("added", cpus=4),)
    world.clock.advance(LOOK_EVERY)
    world.controller.step()

    assert [each.id for each in world.cluster.submissions][1:] == [world.job(job).submission_id]
    world.clock.advance(LOOK_EVERY)
    world.controller.step()
    assert world.cluster.stopped == [request.id]


def test_a_cancelled_job_needs_no_node(world: World) -> None:
    world.cluster.coming = COMING
    job = world.step_until(world.add_job(request=JobRequest(cpus=4)), JobStatus.QUEUED)
    assert told(world, job) is not None
    world.store.cancel_job(job.id, now=int(world.clock.now()))
    world.clock.advance(LOOK_EVERY)
    world.controller.step()
    assert world.cluster.stopped == [world.cluster.submissions[0].id]

"""Each node has a warm process, and gets another where that has ended."""

from __future__ import annotations

from tunesmith.cluster.fake import FakeCluster, empty_node
from tunesmith.cluster.protocol import Node, SubmissionState
from tunesmith.controller.warmth import IDLE, LOOK_EVERY, Warmth

NODES = (
    empty_node("a", cpus=4),
    empty_node("head", cpus=0),
    empty_node("b", cpus=4),
)


def looks(warmth: Warmth, count: int, *, begin: int = 100) -> int:
    """Look `count` times, as often as it is time to; return when the next is."""
    for number in range(count):
        warmth.keep(NODES, now=begin + number * LOOK_EVERY)
    return begin + count * LOOK_EVERY


def test_each_node_with_processors_has_one_that_holds_none() -> None:
    cluster = FakeCluster()
    looks(Warmth(cluster), 6)
    assert [(each.node, each.cpus) for each in cluster.submissions] == [("a", 0), ("b", 0)]
    assert cluster.submissions[0].command[:3] == ("python", "-m", "tunesmith.training.warm")


def test_the_cluster_is_asked_now_and_then_alone() -> None:
    cluster = FakeCluster()
    warmth = Warmth(cluster)
    for _ in range(5):
        warmth.keep(NODES, now=100)
    assert len(cluster.submissions) == 1


def test_one_that_has_ended_is_followed_by_another_after_a_pause() -> None:
    cluster = FakeCluster()
    warmth = Warmth(cluster)
    now = looks(warmth, 2)
    cluster.end("tunesmith-warm-a-1", SubmissionState.FAILED)
    now = looks(warmth, 4, begin=now)
    assert len(cluster.submissions) == 2
    looks(warmth, 30, begin=now)
    assert [each.id for each in cluster.submissions] == [
        "tunesmith-warm-a-1",
        "tunesmith-warm-b-1",
        "tunesmith-warm-a-2",
    ]


def test_those_of_a_controller_before_are_found() -> None:
    cluster = FakeCluster()
    looks(Warmth(cluster), 4)
    cluster.end("tunesmith-warm-a-1", SubmissionState.FAILED)
    looks(Warmth(cluster), 60)
    assert len(cluster.submissions) == 3


def test_a_silent_cluster_is_asked_again_later() -> None:
    cluster = FakeCluster()
    warmth = Warmth(cluster)
    cluster.unavailable = True
    now = looks(warmth, 2)
    cluster.unavailable = False
    looks(warmth, 2, begin=now)
    assert len(cluster.submissions) == 2


def test_on_a_node_that_leaves_when_it_is_idle_none_keeps_it() -> None:
    cluster, now = FakeCluster(), 100
    warmth = Warmth(cluster)
    idle = empty_node("a", cpus=4).model_copy(update={"passing": True})
    busy = idle.model_copy(update={"free": {"CPU": 2.0}})

    def looks_at(node: Node, seconds: int) -> None:
        nonlocal now
        for _ in range(0, seconds, LOOK_EVERY):
            warmth.keep((node,), now=now)
            now += LOOK_EVERY

    looks_at(busy, 5 * IDLE)
    looks_at(idle, IDLE)
    looks_at(busy, 5 * IDLE)
    assert cluster.stopped == []
    looks_at(idle, 5 * IDLE)
    assert cluster.stopped == ["tunesmith-warm-a-1"]
    assert len(cluster.submissions) == 1
    looks_at(busy, IDLE)
    assert [each.id for each in cluster.submissions] == ["tunesmith-warm-a-1", "tunesmith-warm-a-2"]

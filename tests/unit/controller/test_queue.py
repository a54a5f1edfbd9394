"""Which jobs have their turn, which make room, and what waiting ones are told."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import Node
from tunesmith.controller.queue import Look, Plan, plan
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.spec import JobRequest

NOW = 1000


def waiting(name: str, *, project: str = "default", attempt: int = 0, **asked: Any) -> Job:
    """A job that asks for 2 processors unless told otherwise."""
    return Job(
        id=name,
        dialect=Dialect.OPENAI,
        created_at=0,
        status=JobStatus.QUEUED,
        model="base",
        training_file="file-a",
        training_filename="a",
        request=JobRequest(**{"cpus": 2, **asked}),
        seed=1,
        organization="org",
        attempt=attempt,
        project=project,
    )


def running(name: str, *, until: int | None = None, began: int = 0, **asked: Any) -> Job:
    """A job that runs and should end at `until`."""
    return waiting(name, attempt=1, **asked).model_copy(
        update={
            "status": JobStatus.RUNNING,
            "submission_open": True,
            "began_at": began,
            "estimated_finish": until,
        }
    )


def planned(
    *jobs: Job,
    nodes: tuple[Node, ...] = (empty_node("a", cpus=4),),
    on: dict[str, str] | None = None,
    **changes: Any,
) -> Plan:
    """Plan for `jobs`, of which those that run are `on` the first node unless told otherwise."""
    places = {job.id: nodes[0].id for job in jobs if job.submission_open} if nodes else {}
    usual: dict[str, Any] = {
        "now": NOW,
        "nodes": nodes,
        "jobs": jobs,
        "places": places | (on or {}),
        "left": (),
        "used": {},
        "shares": {},
        "usual": None,
    }
    return plan(Look(**(usual | changes)))


def in_line(found: Plan) -> list[str]:
    return [wait.job_id for wait in found.waits]


def test_jobs_are_launched_as_they_came_as_far_as_the_processors_reach() -> None:
    found = planned(waiting("first"), waiting("second"), waiting("third"))
    assert found.admitted == ("first", "second")
    assert in_line(found) == ["third"]


def test_a_job_fits_on_one_node_or_not_at_all() -> None:
    nodes = (empty_node("a", cpus=3), empty_node("b", cpus=3))
    found = planned(
        running("one", cpus=2),
        running("two", cpus=2),
        waiting("next", cpus=2),
        nodes=nodes,
        on={"one": "a", "two": "b"},
    )
    assert found.admitted == ()
    assert found.waits[0].missing == {"CPU": 1.0}


def test_a_job_goes_where_it_leaves_the_least_free() -> None:
    nodes = (empty_node("large", cpus=8), empty_node("small", cpus=2))
    found = planned(waiting("little", cpus=2), waiting("much", cpus=8), nodes=nodes)
    assert found.admitted == ("little", "much")


def test_what_others_hold_on_the_cluster_is_not_free() -> None:
    node = empty_node("a", cpus=4).model_copy(update={"free": {"CPU": 1.0, "memory": 1e12}})
    found = planned(waiting("next"), nodes=(node,))
    assert found.admitted == ()
    assert found.waits[0].reason == "It is the next, and lacks 1 CPU."


def test_memory_is_reckoned_as_processors_are() -> None:
    nodes = (empty_node("a", cpus=4, memory=4 * 2**30),)
    much = waiting("much", memory=3 * 2**30)
    found = planned(running("one", memory=2 * 2**30), much, nodes=nodes)
    assert found.admitted == ()
    assert found.waits[0].reason == "It is the next, and lacks 1.0 GiB of memory."
    assert found.waits[0].missing == {"memory": 2**30}


def test_an_attempt_that_has_ended_on_the_cluster_holds_nothing() -> None:
    found = planned(running("over", cpus=4), waiting("next"), left={"over"})
    assert found.admitted == ("next",)


def test_an_attempt_whose_node_is_not_known_yet_holds_room_somewhere() -> None:
    launched = waiting("launched", attempt=1).model_copy(update={"submission_open": True})
    found = plan(
        Look(
            now=NOW,
            nodes=(empty_node("a", cpus=2), empty_node("b", cpus=2)),
            jobs=(launched, waiting("second"), waiting("third")),
            places={},
            left=(),
            used={},
            shares={},
            usual=None,
        )
    )
    assert found.admitted == ("second",)


def test_what_no_node_can_hold_is_launched_to_be_refused_and_stands_in_nobodys_way() -> None:
    found = planned(waiting("huge", cpus=64), waiting("usual"))
    assert found.admitted == ("huge", "usual")


def test_a_job_that_ran_waits_for_its_node_to_come_back() -> None:
    found = planned(waiting("ran", cpus=64, attempt=1), waiting("usual"))
    assert found.admitted == ("usual",)
    assert found.waits[0].reason == "No node that is there now can hold it."


@pytest.mark.parametrize("nodes", [(), (empty_node("head", cpus=0),)])
def test_all_wait_while_no_node_has_a_processor(nodes: tuple[Node, ...]) -> None:
    found = planned(waiting("first"), waiting("huge", cpus=64), nodes=nodes)
    assert found.admitted == ()
    assert {wait.reason for wait in found.waits} == {
        "The cluster has no node with a processor yet."
    }


class TestBackfill:
    """A job that waits for much is not passed by for ever."""

    def test_a_small_job_does_not_take_what_the_first_in_line_waits_for(self) -> None:
        found = planned(running("one"), waiting("large", cpus=4), waiting("small", cpus=1))
        assert found.admitted == ()
        assert found.waits[1].reason == "What is free is kept for the job that is the next."
        assert found.waits[1].missing == {}

    def test_a_small_job_takes_what_the_first_in_line_leaves_free(self) -> None:
        found = planned(running("one"), waiting("large", cpus=3), waiting("small", cpus=1))
        assert found.admitted == ("small",)

    def test_a_small_job_runs_on_another_node_than_the_one_that_is_promised(self) -> None:
        nodes = (empty_node("a", cpus=4), empty_node("b", cpus=2))
        found = planned(
            running("one"), waiting("large", cpus=4), waiting("small", cpus=2), nodes=nodes
        )
        assert found.admitted == ("small",)

    def test_a_job_that_ends_in_time_runs_ahead(self) -> None:
        found = planned(
            running("one", until=NOW + 600),
            waiting("large", cpus=4),
            waiting("late", cpus=1, max_run_seconds=600),
            waiting("in time", cpus=1, max_run_seconds=500),
        )
        assert found.admitted == ("in time",)

    def test_nobody_is_in_time_for_an_end_that_is_not_known(self) -> None:
        brief = waiting("brief", cpus=1, max_run_seconds=1)
        assert planned(running("one"), waiting("large", cpus=4), brief).admitted == ()


class TestPriority:
    """High comes before normal, normal before low; and takes its room where it must."""

    def test_a_higher_priority_has_its_turn_first(self) -> None:
        found = planned(
            waiting("low", cpus=4, priority="low"),
            waiting("normal", cpus=4),
            waiting("high", cpus=4, priority="high"),
        )
        assert found.admitted == ("high",)
        assert in_line(found) == ["normal", "low"]

    def test_the_lowest_and_youngest_make_room_and_no_more_than_are_needed(self) -> None:
        found = planned(
            running("old low", cpus=1, began=10, priority="low"),
            running("young low", cpus=1, began=20, priority="low"),
            running("normal", cpus=2),
            waiting("high", cpus=1, priority="high"),
        )
        assert found.yielding == {"young low"}
        assert found.waits[0].reason == "It is the next; jobs of lower priority make room for it."

    def test_what_would_not_be_enough_is_not_taken(self) -> None:
        found = planned(
            running("low", cpus=1, priority="low"),
            running("other high", cpus=3, priority="high"),
            waiting("high", cpus=2, priority="high"),
        )
        assert found.yielding == set()

    def test_who_makes_room_already_is_waited_for(self) -> None:
        leaving = running("leaving", cpus=2, priority="low").model_copy(
            update={"status": JobStatus.QUEUED, "stopping": True}
        )
        found = planned(
            leaving,
            running("low", cpus=2, priority="low"),
            waiting("high", cpus=2, priority="high"),
        )
        assert found.yielding == set()
        assert found.waits[0].expected_start is not None

    def test_jobs_of_the_same_priority_leave_each_other_alone(self) -> None:
        assert planned(running("one", cpus=4), waiting("two", cpus=4)).yielding == set()


class TestFairness:
    """Projects have their shares of what is used."""

    def test_who_has_used_less_has_the_turn(self) -> None:
        found = planned(
            waiting("greedy", cpus=4, project="a"),
            waiting("modest", cpus=4, project="b"),
            used={"a": 100.0, "b": 10.0},
        )
        assert found.admitted == ("modest",)

    def test_turns_alternate_where_all_used_the_same(self) -> None:
        jobs = [waiting(f"a{n}", project="a") for n in range(3)]
        jobs += [waiting(f"b{n}", project="b") for n in range(3)]
        found = planned(*jobs, running("all", cpus=4))
        assert in_line(found) == ["a0", "b0", "a1", "b1", "a2", "b2"]

    def test_a_project_with_three_shares_has_three_turns(self) -> None:
        jobs = [waiting(f"a{n}", project="a") for n in range(6)]
        jobs += [waiting(f"b{n}", project="b") for n in range(6)]
        found = planned(*jobs, running("all", cpus=4), shares={"b": 3})
        assert [name[0] for name in in_line(found)[:8]].count("b") == 6


class TestWhatIsTold:
    """A waiting job is told its place, what it lacks, who has it, and when it should start."""

    def test_all_of_it(self) -> None:
        found = planned(
            running("later", until=NOW + 900, project="other"),
            running("soon", until=NOW + 300),
            waiting("next", cpus=2),
            waiting("behind", cpus=4),
            usual=60.0,
        )
        first, second = found.waits
        assert (first.position, first.missing) == (1, {"CPU": 2.0})
        assert [(each.job_id, each.until) for each in first.held_by] == [
            ("soon", NOW + 300),
            ("later", NOW + 900),
        ]
        assert first.held_by[0].resources == {"CPU": 2.0}
        assert first.expected_start == NOW + 300
        assert (second.position, second.missing) == (2, {"CPU": 4.0})
        assert second.expected_start == NOW + 900

    def test_a_start_that_nothing_tells_is_not_made_up(self) -> None:
        found = planned(running("one", cpus=4), waiting("next"), usual=None)
        assert found.waits[0].expected_start is None
        assert found.waits[0].held_by[0].until is None

    def test_a_deadline_tells_when_a_job_ends_at_the_latest(self) -> None:
        bounded = running("bounded", cpus=4, began=NOW - 100, max_run_seconds=200)
        start = planned(bounded, waiting("next")).waits[0].expected_start
        assert start is not None
        assert 100 <= start - NOW < math.inf

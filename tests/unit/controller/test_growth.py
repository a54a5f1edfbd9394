"""Which nodes that are not there the queue needs, and what it says of them."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import Coming, Node, Resources
from tunesmith.controller.queue import Look, Plan, plan
from tunesmith.controller.resolve import resolve_grant
from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.jobs import Job
from tunesmith.domain.spec import JobRequest
from unit.controller.test_queue import NOW, running, waiting

HEAD = empty_node("head", cpus=0)
SMALL = empty_node("small", cpus=2)


def coming(*, cpus: int = 0, cards: int = 0) -> tuple[Coming, ...]:
    return (
        Coming(name="cpus", resources={"CPU": 4.0, "memory": 8e9}, more=cpus),
        Coming(name="cards", resources={"CPU": 8.0, "GPU": 2.0}, more=cards),
    )


def planned(
    *jobs: Job, nodes: tuple[Node, ...] = (SMALL,), held: str | None = None, **more: int
) -> Plan:
    look: dict[str, Any] = {
        "now": NOW,
        "nodes": nodes,
        "jobs": jobs,
        "places": {job.id: nodes[0].id for job in jobs if job.submission_open},
        "left": (),
        "used": {},
        "shares": {},
        "usual": None,
        "held": held,
    }
    return plan(Look(**look, coming=coming(**more)))


def reasons(found: Plan) -> list[str]:
    return [wait.reason for wait in found.waits]


def test_what_only_a_node_to_come_can_hold_waits_for_it_and_is_not_refused() -> None:
    found = planned(waiting("large", cpus=4), cpus=1)
    assert found.admitted == ()
    assert found.needed == {"cpus": 1}
    assert reasons(found) == ["No node that is there can hold it. A node of 'cpus' is asked for."]
    assert found.waits[0].expected_start is None


def test_no_node_is_asked_for_while_nothing_is_launched() -> None:
    found = planned(waiting("large", cpus=4), waiting("small"), held="The disk is full.", cpus=1)
    assert (found.admitted, found.needed) == ((), {})
    assert reasons(found) == ["The disk is full.", "The disk is full."]


def test_what_no_node_to_come_can_hold_either_is_admitted_to_be_refused() -> None:
    found = planned(waiting("huge", cpus=9), cpus=1, cards=1)
    assert found.admitted == ("huge",)
    assert found.needed == {}


def test_a_group_that_is_complete_adds_nothing() -> None:
    assert planned(waiting("large", cpus=4), cpus=0, cards=0).admitted == ("large",)


def test_a_cluster_that_nobody_scales_needs_nothing() -> None:
    found = planned(running("one", cpus=2), waiting("next"))
    assert found.needed == {}
    assert reasons(found) == ["It is the next, and lacks 2 CPU."]


def test_a_job_that_waits_for_busy_nodes_has_one_added() -> None:
    found = planned(running("one", cpus=2, until=NOW + 60), waiting("next"), cpus=1)
    assert found.needed == {"cpus": 1}
    assert reasons(found) == ["It is the next, and lacks 2 CPU. A node of 'cpus' is asked for."]
    assert found.waits[0].expected_start == NOW + 60


def test_as_many_nodes_are_added_as_those_in_line_fill() -> None:
    line = [waiting(f"job-{number}", cpus=2) for number in range(5)]
    assert planned(running("one", cpus=2), *line, cpus=9).needed == {"cpus": 3}


def test_no_more_nodes_are_added_than_there_may_be_and_the_first_in_line_have_them() -> None:
    line = [waiting(f"job-{number}", cpus=4) for number in range(3)]
    found = planned(*line, cpus=2)
    assert found.needed == {"cpus": 2}
    assert ["asked for" in reason for reason in reasons(found)] == [True, True, False]


def test_nodes_with_devices_are_added_for_jobs_that_use_them() -> None:
    card = waiting("card", cpus=2, device=Device.CUDA)
    found = planned(card, waiting("plain", cpus=4), cpus=1, cards=1)
    assert found.needed == {"cards": 1, "cpus": 1}


def test_workers_that_find_no_place_together_have_nodes_added_beside_those_that_are_there() -> None:
    found = planned(
        waiting("four", cpus=4, workers=4), nodes=(empty_node("a", cpus=4),), cpus=2, cards=1
    )
    assert found.needed == {"cpus": 2, "cards": 1}
    assert reasons(found) == [
        "No node that is there can hold it. Nodes of 'cards' and 'cpus' are asked for."
    ]


def test_one_that_waits_for_a_node_to_come_holds_up_nobody_who_fits_now() -> None:
    found = planned(waiting("large", cpus=4), waiting("little", cpus=2), cpus=1)
    assert found.admitted == ("little",)


def test_one_for_whom_others_make_room_needs_no_node() -> None:
    found = planned(
        running("low", cpus=2, priority="low"), waiting("urgent", priority="high"), cpus=1
    )
    assert found.yielding == {"low"}
    assert found.needed == {}


def test_a_job_that_ran_before_has_a_node_added_when_its_own_is_gone() -> None:
    found = planned(waiting("again", cpus=4, attempt=1), cpus=1)
    assert found.admitted == ()
    assert found.needed == {"cpus": 1}


def test_where_no_node_has_a_processor_the_first_is_added() -> None:
    found = planned(waiting("any", cpus=None), nodes=(HEAD,), cpus=1)
    assert found.needed == {"cpus": 1}


def test_memory_that_a_group_does_not_tell_is_enough_and_what_it_tells_is_a_limit() -> None:
    much = waiting("much", cpus=4, memory=int(9e9))
    assert planned(much, cpus=1).admitted == ("much",)
    assert planned(much, cpus=1, cards=1).needed == {"cards": 1}


def test_processors_that_are_left_open_are_those_of_nodes_that_are_there_before_any_to_come() -> (
    None
):
    there = Resources(nodes=(SMALL,), coming=coming(cpus=1, cards=1))
    assert resolve_grant(JobRequest(), there) == (1, 2)
    assert resolve_grant(JobRequest(device=Device.CUDA), there) == (1, 4)
    empty = Resources(nodes=(HEAD,), coming=coming(cpus=1))
    assert resolve_grant(JobRequest(), empty) == (1, 4)


def test_a_refusal_tells_the_largest_of_all_nodes_that_there_may_be() -> None:
    there = Resources(nodes=(SMALL,), coming=coming(cpus=1, cards=1))
    with pytest.raises(InvalidRequestError, match="has 9 CPUs; the largest has 8"):
        resolve_grant(JobRequest(cpus=9), there)
    with pytest.raises(InvalidRequestError, match="No node of the cluster has a HPU"):
        resolve_grant(JobRequest(device=Device.HPU), there)

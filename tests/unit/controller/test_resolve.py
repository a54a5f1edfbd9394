from __future__ import annotations

import pytest

from tunesmith.cluster.protocol import Node, Resources
from tunesmith.controller.resolve import resolve_cpus
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import JobRequest


def test_all_processors_of_the_largest_node_are_taken_unless_fewer_are_asked_for() -> None:
    nodes = (Node(id="a", cpus=4, memory=1), Node(id="b", cpus=16, memory=1))
    resources = Resources(nodes=nodes, free_cpus=20)

    assert resolve_cpus(JobRequest(), resources) == 16
    assert resolve_cpus(JobRequest(cpus=3), resources) == 3
    with pytest.raises(InvalidRequestError, match=r"has 17 CPUs; the largest has 16"):
        resolve_cpus(JobRequest(cpus=17), resources)


def test_a_cluster_without_processors_holds_nothing() -> None:
    with pytest.raises(InvalidRequestError, match="the largest has 0"):
        resolve_cpus(JobRequest(), Resources(nodes=(), free_cpus=0))

from __future__ import annotations

import pytest

from tunesmith.cluster.protocol import Node, Resources
from tunesmith.controller.resolve import (
    BASE_LEARNING_RATE,
    resolve_cpus,
    resolve_hyperparameters,
)
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import JobRequest


@pytest.mark.parametrize(
    ("examples", "n_epochs", "batch_size"),
    [(10, 10, 4), (240, 7, 7), (1000, 2, 16), (1501, 1, 16), (52_000, 1, 16)],
)
def test_auto_follows_the_stated_rules(examples: int, n_epochs: int, batch_size: int) -> None:
    resolved = resolve_hyperparameters(JobRequest(), examples=examples)

    assert (resolved.n_epochs, resolved.batch_size) == (n_epochs, batch_size)
    assert resolved.learning_rate == BASE_LEARNING_RATE
    assert resolved.learning_rate_multiplier == 1.0


def test_what_the_request_names_is_kept() -> None:
    request = JobRequest(n_epochs=3, batch_size=64, learning_rate_multiplier=0.5)

    resolved = resolve_hyperparameters(request, examples=10)

    assert (resolved.n_epochs, resolved.batch_size) == (3, 64)
    assert resolved.learning_rate == BASE_LEARNING_RATE / 2


def test_an_absolute_learning_rate_is_taken_as_it_is_and_reported_as_a_factor_too() -> None:
    resolved = resolve_hyperparameters(JobRequest(learning_rate=5e-5), examples=10)

    assert resolved.learning_rate == 5e-5
    assert resolved.learning_rate_multiplier == pytest.approx(0.1)


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

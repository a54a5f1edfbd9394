"""What does not fit into memory is cut smaller, as long as there is anything to cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.training.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.training.examples import MicroBatch
    from unit.training.conftest import Bench, Rows

RUN: dict[str, Any] = {"batch_size": 8, "n_epochs": 2, "checkpoint_every": 1}


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Tokens that fit into memory, to be set by the test; no bound at first."""
    limit, measure = [float("inf")], Supervised.measure

    def measure_if_it_fits(self: Supervised, network: Any, batch: MicroBatch) -> Any:
        if batch.tokens > limit[0] and torch.is_grad_enabled():
            # The gradient of another micro-batch may be there already, and is to count once.
            network.model.zero_grad(set_to_none=False)
            for weight in network.model.parameters():
                if weight.requires_grad:
                    weight.grad = torch.ones_like(weight)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return measure(self, network, batch)

    monkeypatch.setattr(Supervised, "measure", measure_if_it_fits)
    return limit


def warnings(bench: Bench) -> list[str]:
    found = bench.run.events(after=0)
    return [
        one.message for one in found if one.level is EventLevel.WARN and "memory" in one.message
    ]


def test_smaller_micro_batches_learn_the_same(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], room: list[float]
) -> None:
    roomy, narrow = new_bench("roomy"), new_bench("narrow")
    roomy.write_spec(rows(16), **RUN)
    narrow.write_spec(rows(16), **RUN)
    roomy.train()
    room[0] = 100

    assert narrow.train().error is None

    assert [one.train_loss for one in narrow.metrics()] == pytest.approx(
        [one.train_loss for one in roomy.metrics()], rel=1e-4
    )
    assert warnings(roomy) == []
    assert warnings(narrow)
    assert warnings(narrow)[0].startswith("A micro-batch of step 1 did not fit into memory")


def test_a_later_step_and_a_later_attempt_begin_with_what_fitted(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], room: list[float]
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(16), **RUN)
    room[0] = 100
    whole.train()

    killed.train_until(b"Step 3/")
    assert killed.train(attempt=2).error is None

    assert warnings(killed) == warnings(whole)
    assert len(set(warnings(killed))) == len(warnings(killed))
    assert killed.adapter() == whole.adapter()


def test_a_single_example_that_does_not_fit_is_a_failure(
    bench: Bench, rows: Callable[[int], Rows], room: list[float]
) -> None:
    bench.write_spec(rows(16), **RUN)
    room[0] = 1

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.OUT_OF_MEMORY
    assert "max_length to 64" in error.message

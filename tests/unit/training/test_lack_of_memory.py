"""What does not fit into memory is cut smaller, as long as there is anything to cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import LoraSpec
from tunesmith.training import examples
from tunesmith.training.supervised import Supervised
from tunesmith.training.telemetry import EventLog

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


def test_a_long_example_among_short_ones_that_does_not_fit_is_a_failure(
    bench: Bench, rows: Callable[[int], Rows], room: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "MICRO_BATCH_TOKENS", 120)
    bench.write_spec([*rows(7), {"instruction": "say", "output": "much " * 60}], **RUN)
    room[0] = 59

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.OUT_OF_MEMORY
    told = [event.data for event in bench.run.events(after=0) if event.level is EventLevel.WARN]
    limits = [data["micro_batch_tokens"] for data in told if data]
    assert limits == sorted(set(limits), reverse=True)
    assert max(limits) < 120


def test_steps_before_the_lack_are_divided_as_they_were(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], room: list[float]
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(16), batch_size=8, n_epochs=2, lora=LoraSpec(rank=4, dropout=0.1))
        bench.run.claim(1)
        log = EventLog(bench.run, 1)
        log.too_large(3, most=70)
    whole.train()

    # No checkpoint was saved, and by now all would fit: the division is told, not found anew.
    killed.train_until(b"Step 4/")
    assert killed.train(attempt=2).error is None

    assert [one.train_loss for one in killed.metrics()] == [
        one.train_loss for one in whole.metrics()
    ]
    assert killed.adapter() == whole.adapter()
    log = EventLog(killed.run, 2)
    assert [log.most_tokens(step) for step in (2, 3, 4)] == [None, 70, 70]

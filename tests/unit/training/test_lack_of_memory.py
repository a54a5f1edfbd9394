"""What does not fit into memory is cut smaller, as long as there is anything to cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.preferences import Sigmoid
from tunesmith.domain.spec import LoraSpec, Method, Precision
from tunesmith.training import examples, failures, loading
from tunesmith.training.network import Network
from tunesmith.training.supervised import Supervised
from tunesmith.training.telemetry import EventLog, Pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.domain.changes import Change
    from tunesmith.training.examples import MicroBatch
    from unit.training.conftest import Bench, Rows

RUN: dict[str, Any] = {"batch_size": 8, "n_epochs": 2, "checkpoint_every": 1}


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Tokens that fit into memory in a step, to be set by the test; no bound at first."""
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
    assert "of the training file" in error.message
    assert "though it goes through the model alone" in error.message


def test_a_long_example_among_short_ones_that_does_not_fit_is_a_failure(
    bench: Bench, rows: Callable[[int], Rows], room: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "MICRO_BATCH_TOKENS", 120)
    bench.write_spec([*rows(7), {"instruction": "say", "output": "much " * 60}], **RUN)
    room[0] = 59

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.OUT_OF_MEMORY
    assert error.message == (
        "Line 8 of the training file, 128 tokens long, does not fit into memory in step 1, though "
        "it goes through the model alone. Set gradient_checkpointing to true, or max_length to 64."
    )
    assert error.change == {"gradient_checkpointing": True}
    assert warnings(bench) == [], "smaller micro-batches of others would not help"


def test_steps_before_the_lack_are_divided_as_they_were(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], room: list[float]
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(16), batch_size=8, n_epochs=2, lora=LoraSpec(rank=4, dropout=0.1))
        bench.run.claim(1)
        log = EventLog(bench.run, 1)
        log.too_large(Pass(3), most=70)
    whole.train()

    # No checkpoint was saved, and by now all would fit: the division is told, not found anew.
    killed.train_until(b"Step 4/")
    assert killed.train(attempt=2).error is None

    assert [one.train_loss for one in killed.metrics()] == [
        one.train_loss for one in whole.metrics()
    ]
    assert killed.adapter() == whole.adapter()
    log = EventLog(killed.run, 2)
    assert [log.most_tokens(Pass(step)) for step in (2, 3, 4)] == [None, 70, 70]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Tokens that fit into memory where no gradient is taken, to be set by the test."""
    limit, states = [float("inf")], Network.hidden_states

    def states_if_they_fit(self: Network, batch: MicroBatch) -> torch.Tensor:
        if batch.tokens > limit[0] and not torch.is_grad_enabled():
            raise MemoryError
        return states(self, batch)

    monkeypatch.setattr(Network, "hidden_states", states_if_they_fit)
    return limit


def scores(bench: Bench) -> list[tuple[int, float, float | None]]:
    return [(one.step, one.train_loss, one.valid_loss) for one in bench.metrics()]


EVALUATED: dict[str, Any] = RUN | {"held_out_percent": 50.0, "evaluate_every": 1}


def test_an_evaluation_that_does_not_fit_finds_the_same_in_smaller_micro_batches(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], narrow: list[float]
) -> None:
    roomy, small = new_bench("roomy"), new_bench("narrow")
    for bench in (roomy, small):
        bench.write_spec(rows(16), **EVALUATED)
    roomy.train()
    narrow[0] = 100

    assert small.train().error is None

    for one, other in zip(scores(small), scores(roomy), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    beginning = "A micro-batch of the evaluation before the first step did not fit into memory"
    # The next evaluations begin with what fitted.
    assert warnings(small)
    assert all(message.startswith(beginning) for message in warnings(small))
    assert EventLog(small.run, 1).most_tokens(Pass(2)) is None, "no step was too large"


def test_an_evaluation_is_divided_by_each_attempt_alike(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], narrow: list[float]
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(16), **EVALUATED)
    narrow[0] = 100
    whole.train()

    killed.train_until(b"Step 2/")
    assert killed.train(attempt=2).error is None

    assert scores(killed) == scores(whole)
    assert warnings(killed) == warnings(whole)


def test_an_evaluation_takes_no_more_at_once_than_fits_a_step(
    bench: Bench, rows: Callable[[int], Rows], room: list[float]
) -> None:
    bench.write_spec(rows(16), **EVALUATED)
    room[0] = 100
    bench.train()

    log = EventLog(bench.run, 1)

    assert log.most_tokens(Pass(1)) is not None
    assert log.most_tokens(Pass(1, "evaluation")) == log.most_tokens(Pass(1))


@pytest.mark.parametrize("given", [True, False])
def test_a_held_out_example_that_does_not_fit_is_named_with_its_file(
    bench: Bench, rows: Callable[[int], Rows], narrow: list[float], given: bool
) -> None:
    long = {"instruction": "say", "output": "much " * 60}
    files: dict[str, Any] = (
        {"validation_file": bench.upload("valid", [*rows(3), long])}
        if given
        else {"held_out_percent": 50.0}
    )
    bench.write_spec(rows(16) if given else [long] * 2, **RUN | files)
    narrow[0] = 127

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.OUT_OF_MEMORY
    where = "Line 4 of the validation" if given else "of the training"
    assert f"{where} file, 128 tokens long, does not fit into memory in the eval" in error.message
    assert error.change == {"max_length": 64}


PAIRS = [
    {"prompt": f"Say {n}", "chosen": f"{n} " * (1 + n % 4), "rejected": "no " * (1 + n % 3)}
    for n in range(12)
]
DPO: dict[str, Any] = {
    "method": Method.DPO,
    "beta": 0.1,
    "preference": Sigmoid(),
    "batch_size": 4,
    "n_epochs": 1,
}


def test_a_reference_that_does_not_fit_is_measured_in_smaller_micro_batches(
    new_bench: Callable[[str], Bench], narrow: list[float]
) -> None:
    roomy, small = new_bench("roomy"), new_bench("narrow")
    for bench in (roomy, small):
        bench.write_spec(PAIRS, **DPO)
    roomy.train()
    narrow[0] = 200

    assert small.train().error is None

    assert [one.train_loss for one in small.metrics()] == pytest.approx(
        [one.train_loss for one in roomy.metrics()], rel=1e-4
    )
    assert warnings(small)
    assert warnings(small)[0].startswith("A micro-batch of the pass that measures the reference")


def test_a_pair_whose_reference_does_not_fit_alone_is_named(
    bench: Bench, narrow: list[float]
) -> None:
    long = {"prompt": "Say", "chosen": "much " * 60, "rejected": "no"}
    bench.write_spec([*PAIRS, long], **DPO)
    narrow[0] = 130

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.OUT_OF_MEMORY
    assert error.message.startswith("Line 13 of the training file, 128 tokens long")
    assert error.change == {"max_length": 64}


@pytest.mark.parametrize(
    ("options", "four_bits", "change"),
    [
        ({"lora": None, "precision": Precision.FP32}, True, {"lora": {}}),
        ({"precision": Precision.FP32}, True, {"precision": "bf16"}),
        ({"precision": Precision.BF16}, True, {"lora.quantized": True}),
        ({"precision": Precision.BF16}, False, None),
        ({"precision": Precision.BF16, "start_from": "output/ftjob-0"}, True, None),
        ({"precision": Precision.BF16, "lora": LoraSpec(quantized=True)}, True, None),
    ],
)
def test_a_model_that_does_not_fit_at_all_is_to_be_smaller(
    bench: Bench,
    rows: Callable[[int], Rows],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    four_bits: bool,
    change: Change | None,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(loading, "load_model", refuse)
    monkeypatch.setattr(failures, "find_spec", lambda _: four_bits or None)
    bench.write_spec(rows(4), **options)

    error = bench.train().error

    assert error is not None
    assert (error.code, error.change) == (FailureCode.OUT_OF_MEMORY, change)
    assert ("a smaller base model" in error.message) is (change is None)

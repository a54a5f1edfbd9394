"""A tuned model is tuned on: the run begins with its adapter's weights, whatever their kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tunesmith.domain.events import StepMetrics
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import LoraSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows


def tune(bench: Bench, data: Rows, **changes: Any) -> StepMetrics:
    """Tune, keep the adapter where a later job finds it, and return the last numbers."""
    bench.write_spec(data, n_epochs=4, learning_rate=2e-2, **changes)
    assert bench.train().error is None
    last = bench.metrics()[-1]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        bench.artifacts.copy(f"{bench.run.output}/{name}", f"output/ftjob-0/{name}")
    bench.artifacts.delete(bench.run.prefix)
    bench.artifacts.delete(bench.run.output)
    return last


def test_the_first_loss_is_the_one_that_the_earlier_model_ended_with(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    ended = tune(bench, rows(8), validation_file=bench.upload("same", rows(8)))
    bench.write_spec(rows(8), batch_size=8, start_from="output/ftjob-0")

    bench.train()

    assert bench.metrics()[0].train_loss == pytest.approx(ended.valid_loss, abs=1e-5)


def test_without_a_step_to_speak_of_the_adapter_stays_the_same(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    tune(bench, rows(8))
    before = bench.artifacts.get("output/ftjob-0/adapter_model.safetensors")

    bench.write_spec(rows(8), start_from="output/ftjob-0", learning_rate=0.0, max_steps=1)
    bench.train()

    assert bench.adapter() == before


def test_a_resumed_run_needs_the_earlier_adapter_no_more_and_ends_with_the_same_bytes(
    new_bench: Callable[[str], Bench],
    rows: Callable[[int], Rows],
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    changes: dict[str, Any] = {"start_from": "output/ftjob-0", "checkpoint_every": 2}
    for bench in (whole, killed):
        tune(bench, rows(8))
        bench.write_spec(rows(12), **changes)
    whole.train()
    killed.train_until(b"Step 4/")
    killed.artifacts.delete("output/ftjob-0")

    assert killed.train(attempt=2).error is None
    assert killed.adapter() == whole.adapter()


def test_a_missing_adapter_is_a_failure_of_the_model(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), start_from="output/ftjob-0")

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.MODEL_UNAVAILABLE
    assert "is no longer there" in error.message


def test_an_adapter_of_another_shape_is_refused(bench: Bench, rows: Callable[[int], Rows]) -> None:
    tune(bench, rows(8))
    bench.write_spec(rows(8), start_from="output/ftjob-0", lora=LoraSpec(rank=8))

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.MODEL_UNAVAILABLE
    assert "another rank" in error.message


@pytest.mark.parametrize("kind", ["rslora", "dora"])
def test_a_kind_of_adapter_is_trained_saved_with_its_kind_and_loads_in_plain_peft(
    bench: Bench, rows: Callable[[int], Rows], kind: str
) -> None:
    lora = LoraSpec(rank=4, alpha=8).model_copy(update={kind: True})
    bench.write_spec(rows(12), lora=lora, n_epochs=4, learning_rate=2e-2)

    assert bench.train().error is None

    config = json.loads((bench.output / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(bench.base)
    names = PeftModel.from_pretrained(base, bench.output).state_dict()
    assert config[f"use_{kind}"] is True
    assert any("magnitude" in name for name in names) is (kind == "dora")
    assert bench.metrics()[-1].train_loss < bench.metrics()[0].train_loss


def test_a_dora_run_resumes_with_the_same_bytes(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    whole, halved = new_bench("whole"), new_bench("halved")
    changes: dict[str, Any] = {"lora": LoraSpec(rank=4, dora=True), "checkpoint_every": 2}
    whole.write_spec(rows(12), **changes)
    whole.train()
    halved.write_spec(rows(12), **changes)
    halved.train_until(b"Step 4/")
    halved.train(attempt=2)

    assert halved.adapter() == whole.adapter()

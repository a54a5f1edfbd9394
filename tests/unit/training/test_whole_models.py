"""A tuned model all of whose weights were trained stands in the base model's place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tunesmith.domain.events import StepMetrics
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import WholeModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows

WHOLE = WholeModel(name="ft:tiny:acme::0", key="output/ftjob-0")
FULL: dict[str, Any] = {"lora": None, "learning_rate": 1e-3}


def tune(bench: Bench, data: Rows, *, key: str, **changes: Any) -> StepMetrics:
    """Tune, keep the result under `key` for a later job, and return the last numbers."""
    bench.write_spec(data, n_epochs=4, **changes)
    assert bench.train().error is None
    last = bench.metrics()[-1]
    with bench.artifacts.scratch() as aside:
        kept = aside / "kept"
        kept.mkdir()
        for file in filter(lambda each: each.is_file(), bench.output.iterdir()):
            (kept / file.name).write_bytes(file.read_bytes())
        bench.artifacts.put_folder(key, kept)
    bench.artifacts.delete(bench.run.prefix)
    bench.artifacts.delete(bench.run.output)
    return last


@pytest.mark.parametrize("changes", [{}, FULL], ids=["adapter", "full"])
def test_the_first_loss_is_the_one_that_the_whole_model_ended_with(
    bench: Bench, rows: Callable[[int], Rows], changes: dict[str, Any]
) -> None:
    same = bench.upload("same", rows(8))
    ended = tune(bench, rows(8), key=WHOLE.key, validation_file=same, **FULL)
    bench.write_spec(rows(8), batch_size=8, beneath=WHOLE, **changes)

    assert bench.train().error is None

    assert bench.metrics()[0].train_loss == pytest.approx(ended.valid_loss, abs=1e-5)


def test_an_adapter_on_a_whole_model_names_it_and_is_tuned_on_with_it(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    same = bench.upload("same", rows(8))
    tune(bench, rows(8), key=WHOLE.key, **FULL)
    adapter: dict[str, Any] = {"beneath": WHOLE, "learning_rate": 2e-2}
    ended = tune(bench, rows(8), key="output/ftjob-2", validation_file=same, **adapter)

    folder = bench.artifacts.fetch_folder("output/ftjob-2")
    named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(named), folder)
    bare = AutoModelForCausalLM.from_pretrained(named)
    prompt = torch.tensor([[5, 80, 33, 61, 7]])
    with torch.no_grad():
        assert not torch.allclose(model(prompt).logits, bare(prompt).logits, atol=1e-3)

    bench.write_spec(rows(8), batch_size=8, start_from="output/ftjob-2", **adapter)
    assert bench.train().error is None
    assert bench.metrics()[0].train_loss == pytest.approx(ended.valid_loss, abs=1e-5)


def test_a_whole_model_that_is_gone_is_named(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(rows(8), beneath=WHOLE)

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.MODEL_UNAVAILABLE
    assert WHOLE.name in error.message

"""What a run leaves behind."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from typing import TYPE_CHECKING

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import StaleJobError
from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import DataFile, LoraSpec, Precision
from tunesmith.training import checkpoints
from tunesmith.training.checkpoints import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[PeftModel]:
    """The models as the training process had them, at each checkpoint."""
    models: list[PeftModel] = []
    save = checkpoints.save

    def look_and_save(run: RunDirectory, taken: Snapshot) -> None:
        models.append(taken.learner.model)
        save(run, taken)

    monkeypatch.setattr(checkpoints, "save", look_and_save)
    return models


def test_the_loss_falls_and_the_outcome_is_success(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(16), n_epochs=8, learning_rate=2e-2)

    outcome = bench.train()

    metrics = bench.metrics()
    assert outcome.error is None
    assert [one.step for one in metrics] == list(range(1, 33))
    assert metrics[-1].train_loss < metrics[0].train_loss - 0.2
    assert metrics[-1].train_mean_token_accuracy > metrics[0].train_mean_token_accuracy
    assert bench.run.events(after=0)[-1].outcome == outcome


def test_events_are_numbered_without_gaps_and_begin_with_the_attempt(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), n_epochs=1)

    bench.train()

    events = bench.run.events(after=0)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert events[0].message == "Training started (attempt 1) on 1 threads in fp32"


def test_an_unfinished_last_line_of_the_events_is_mended(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), n_epochs=1)
    bench.artifacts.append(f"{bench.run.prefix}/events", b'{"number": 1, "cre')

    bench.train()

    assert bench.run.events(after=0)[0].number == 1
    assert bench.run.events(after=0)[-1].outcome is not None


def test_trained_tokens_count_every_epoch_and_no_padding(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(10), n_epochs=3)

    outcome = bench.train()

    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    assert outcome.trained_tokens == 3 * receipt["training"]["report"]["tokens"]


def test_max_steps_ends_the_run_early_with_a_checkpoint(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(16), max_steps=3)

    bench.train()

    assert [one.step for one in bench.metrics()] == [1, 2, 3]
    assert bench.run.checkpoint_steps() == [3]


def test_the_adapter_loads_in_plain_peft_and_gives_the_same_logits(
    bench: Bench, rows: Callable[[int], Rows], trained: list[PeftModel]
) -> None:
    bench.write_spec(rows(16), n_epochs=4)
    bench.train()
    prompt = torch.tensor([[5, 80, 33, 61, 7]])

    base = AutoModelForCausalLM.from_pretrained(bench.base)
    loaded = PeftModel.from_pretrained(base, bench.output)

    trained[-1].get_base_model().set_attn_implementation("sdpa")
    with torch.no_grad():
        here, there = trained[-1].eval()(prompt).logits, loaded.eval()(prompt).logits
        with loaded.disable_adapter():
            before = loaded(prompt).logits
    assert torch.allclose(here, there, atol=1e-5)
    assert not torch.allclose(here, before, atol=1e-3)


def test_the_adapters_config_names_a_base_model_that_loads(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), n_epochs=1)
    bench.train()

    config = json.loads((bench.output / "adapter_config.json").read_text())

    assert config["base_model_name_or_path"] == str(bench.base)
    assert config["r"] == 4
    assert AutoTokenizer.from_pretrained(bench.output).chat_template


def test_gradient_reaches_the_adapter_alone(
    bench: Bench, rows: Callable[[int], Rows], trained: list[PeftModel]
) -> None:
    bench.write_spec(rows(8))
    bench.train()

    plain = AutoModelForCausalLM.from_pretrained(bench.base).state_dict()
    frozen = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): weight
        for name, weight in trained[-1].state_dict().items()
        if "lora_" not in name
    }
    assert frozen.keys() == plain.keys()
    assert all(torch.equal(frozen[name], plain[name]) for name in plain)


def test_the_receipt_gives_an_account_of_lines_and_tokens(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    data = [*rows(8), {"instruction": "long " * 60, "output": "lost"}]
    bench.write_spec(data, n_epochs=1, held_out_percent=25.0)

    bench.train()

    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    report = receipt["training"]["report"]
    assert report["examples"] == 8
    assert 0 < report["learnt_tokens"] < report["tokens"]
    assert report["set_aside"] == {"answer_cut_away": 1}
    assert receipt["held_out_examples"] == 2
    assert receipt["final_valid_loss"] == bench.metrics()[-1].valid_loss
    assert receipt["precision"] == "fp32"
    assert receipt["libraries"]["torch"] == torch.__version__


def test_lines_set_aside_are_told_in_a_warning(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec([*rows(8), {"instruction": "long " * 60, "output": "lost"}])

    bench.train()

    warnings = [e for e in bench.run.events(after=0) if e.level is EventLevel.WARN]
    assert len(warnings) == 1
    assert warnings[0].message.startswith("Examples not used in 'train.jsonl': 1. Line 9:")


def test_an_example_with_an_empty_answer_is_set_aside_and_told_by_its_number(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    data = [*rows(8), {"instruction": "Say nothing.", "output": ""}]
    content = json.dumps(data).encode()
    digest = hashlib.sha256(content).hexdigest()
    bench.artifacts.put("files/array", content)
    array = DataFile(id="file-array", filename="array.json", key="files/array", sha256=digest)
    bench.write_spec([], n_epochs=1, training_file=array)

    outcome = bench.train()

    assert outcome.error is None
    [warning] = [e for e in bench.run.events(after=0) if e.level is EventLevel.WARN]
    assert "Example 9 (line 1): the answer is empty." in warning.message
    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    assert receipt["training"]["report"]["set_aside"] == {"empty_answer": 1}


def test_the_table_of_metrics_begins_with_openais_columns(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), evaluate_every=2, held_out_percent=25.0, batch_size=2, n_epochs=1)

    bench.train()

    text = bench.artifacts.get(f"{bench.run.prefix}/metrics.csv").decode()
    assert text.splitlines()[0] == (
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,"
        "train_mean_token_accuracy,learning_rate,tokens_per_second"
    )
    table = list(csv.DictReader(io.StringIO(text)))
    assert [row["step"] for row in table] == ["1", "2", "3"]
    assert [bool(row["valid_loss"]) for row in table] == [False, True, True]


def test_old_checkpoints_are_dropped_and_the_newest_are_handed_out(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(20), n_epochs=1, checkpoint_every=1, keep_checkpoints=2)

    bench.train()

    assert bench.run.checkpoint_steps() == [4, 5]
    handed_out = sorted(path.name for path in bench.output.glob("checkpoint-*"))
    assert handed_out == ["checkpoint-4", "checkpoint-5"]
    names = {path.name for path in (bench.output / "checkpoint-4").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= names
    assert checkpoints.STATE not in names


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    adapters = []
    for name, seed in (("first", 7), ("second", 7), ("third", 8)):
        bench = new_bench(name)
        bench.write_spec(rows(12), seed=seed, lora=LoraSpec(rank=4, dropout=0.1))
        bench.train()
        adapters.append(bench.adapter())

    assert adapters[0] == adapters[1]
    assert adapters[0] != adapters[2]


def test_bf16_keeps_the_adapter_in_fp32_and_learns(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(16), n_epochs=4, precision=Precision.BF16)

    outcome = bench.train()

    adapter = load_file(bench.output / checkpoints.ADAPTER)
    assert outcome.error is None
    assert {weight.dtype for weight in adapter.values()} == {torch.float32}
    assert bench.metrics()[-1].train_loss < bench.metrics()[0].train_loss


def test_gradient_checkpointing_changes_nothing_but_memory(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    plain, saving = new_bench("plain"), new_bench("saving")
    for bench, wanted in ((plain, False), (saving, True)):
        bench.write_spec(rows(8), gradient_checkpointing=wanted, lora=LoraSpec(rank=4, dropout=0.1))
        assert bench.train().error is None

    assert [m.train_loss for m in plain.metrics()] == pytest.approx(
        [m.train_loss for m in saving.metrics()], rel=1e-5
    )


def test_nothing_to_learn_is_a_failure_that_says_why(bench: Bench) -> None:
    bench.write_spec([{"instruction": "long " * 60, "output": "lost"}])

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.NOTHING_TO_LEARN
    assert error.param == "training_file"
    assert "Line 1" in error.message
    assert bench.run.events(after=0)[-1].level is EventLevel.ERROR


def test_a_loss_that_is_not_finite_is_a_failure_that_names_step_and_lines(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(2), learning_rate=1e30, max_grad_norm=1e30, n_epochs=20)

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.LOSS_NOT_FINITE
    assert "lines 1, 2 of the training file" in error.message
    assert f"step {len(bench.metrics()) + 1} " in error.message


def test_a_bad_line_is_told_as_the_files_fault(bench: Bench) -> None:
    bench.write_spec([{"instruction": "Say 1", "output": 1}])

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.INVALID_TRAINING_FILE
    assert error.message.startswith("Line 1, /output")


def test_an_attempt_that_was_replaced_writes_nothing_more(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8))
    bench.run.claim(2)

    with pytest.raises(StaleJobError):
        bench.train(attempt=1)

    assert bench.run.events(after=0) == []
    assert bench.run.checkpoint_steps() == []

"""A run with held-out lines ends with a verdict: measured before and behind, line by line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.domain.errors import ArtifactMissingError
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import EarlyStopping, LoraSpec, Method
from tunesmith.domain.verdicts import Gate, VerdictOutcome, VerdictSpec
from tunesmith.training import answers
from tunesmith.training.general import GENERAL
from unit.training.ranking import LORA, asked, ranking_rows
from unit.training.test_dpo import DPO, pair_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.training.conftest import Bench, Rows

SHORT: dict[str, Any] = {"n_epochs": 3, "checkpoint_every": 2}
BESIDE_THE_POINT = [{"instruction": f"Say {n}", "output": "zzzz"} for n in range(8)]


def held_out(bench: Bench, rows: Rows) -> dict[str, Any]:
    return {"validation_file": bench.upload("valid", rows), **SHORT}


def row_loss(model: torch.nn.Module, row: dict[str, str], tokenizer: Any) -> tuple[float, int]:
    """Sum of the losses of a row's answer, by plain transformers, and its tokens."""
    asked = [{"role": "user", "content": row["instruction"]}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    text = f"{prompt}{row['output']}<|im_end|>"
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        chances = torch.log_softmax(model(tokens[None]).logits[0].double(), dim=-1)
    own = chances[torch.arange(start - 1, len(tokens) - 1), tokens[start:]]
    return -float(own.sum()), len(own)


def test_baseline_and_result_are_what_plain_transformers_finds(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(16), **held_out(bench, rows(9)))

    outcome = bench.train()

    verdict = bench.run.verdict()
    tokenizer = AutoTokenizer.from_pretrained(bench.base)
    base = AutoModelForCausalLM.from_pretrained(bench.base).eval()
    before = [row_loss(base, row, tokenizer) for row in rows(9)]
    tuned = PeftModel.from_pretrained(base, bench.output).eval()
    now = [row_loss(tuned, row, tokenizer) for row in rows(9)]
    tokens = sum(count for _, count in now)
    assert verdict.held_out.model_dump() == {"lines": 9, "tokens": tokens}
    loss, perplexity, accuracy = verdict.measures
    assert loss.baseline.value == pytest.approx(sum(at for at, _ in before) / tokens, abs=1e-4)
    assert loss.tuned.value == pytest.approx(sum(at for at, _ in now) / tokens, abs=1e-4)
    assert loss.tuned.value == pytest.approx(bench.metrics()[-1].valid_loss)
    assert perplexity.tuned.value == pytest.approx(math.exp(loss.tuned.value))
    assert accuracy.tuned.value == pytest.approx(bench.metrics()[-1].valid_mean_token_accuracy)
    assert loss.difference.low < loss.difference.value < loss.difference.high < 0
    assert (verdict.outcome, outcome.verdict) == (VerdictOutcome.BETTER, VerdictOutcome.BETTER)
    assert (verdict.model, verdict.gate, verdict.answers) == ("ft:tiny:org::1", None, ())
    assert verdict.best_checkpoint is not None
    assert verdict.best_checkpoint.name == f"ft:tiny:org::1:ckpt-step-{verdict.result_step}"
    told = bench.messages()[-2]
    assert told.startswith("Verdict: better than what the job started from. On 9 held-out lines, ")
    assert len(verdict.general) == len(GENERAL)
    assert verdict.general[0].text == "What is 7 plus 5? 7 plus 5 is 12."
    assert all(one.baseline_loss != one.tuned_loss for one in verdict.general)


@pytest.mark.parametrize("gate", [None, Gate.NOT_WORSE, Gate.BETTER])
def test_a_worse_model_is_told_with_its_lines_and_passes_no_gate(
    bench: Bench, rows: Callable[[int], Rows], gate: Gate | None
) -> None:
    fields = held_out(bench, rows(6)) | {"n_epochs": 20, "learning_rate": 2e-2}
    bench.write_spec(BESIDE_THE_POINT, gate=gate, lora=None, **fields)

    outcome = bench.train()

    verdict = bench.run.verdict()
    assert (verdict.outcome, outcome.verdict) == (VerdictOutcome.WORSE, VerdictOutcome.WORSE)
    assert verdict.worse_count == len(verdict.worse_lines) == 6
    rose = [one.tuned_loss - one.baseline_loss for one in verdict.worse_lines]
    assert rose == sorted(rose, reverse=True)
    assert {one.line for one in verdict.worse_lines} == set(range(1, 7))
    if gate is None:
        assert outcome.error is None
        assert bench.artifacts.list(bench.run.output)
        return
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.param) == (FailureCode.GATE_NOT_PASSED, "gate")
    assert f"{verdict.loss.difference.value:+.4f}" in outcome.error.message
    assert "checkpoints are kept" in outcome.error.message
    assert outcome.error.change is None
    assert verdict.gate is not None
    assert not verdict.gate.passed
    assert not (bench.output / "config.json").exists()
    assert bench.run.checkpoint_steps()
    assert (bench.output / f"checkpoint-{verdict.result_step}" / "config.json").exists()


def test_a_better_model_passes_the_gate(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(rows(16), gate=Gate.BETTER, **held_out(bench, rows(9)))

    assert bench.train().error is None

    gate = bench.run.verdict().gate
    assert gate is not None
    assert gate.passed
    assert bench.adapter()


def test_the_baseline_of_a_job_that_goes_on_is_the_adapter_that_it_goes_on_from(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    same = [{"instruction": f"Say {n}", "output": "aaa"} for n in range(8)]
    fields = held_out(bench, same) | {"n_epochs": 40, "learning_rate": 2e-2}
    bench.write_spec(same, **fields)
    bench.train()
    first = bench.run.verdict()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        bench.artifacts.copy(f"{bench.run.output}/{name}", f"output/ftjob-0/{name}")
    bench.artifacts.delete(bench.run.prefix)
    asked = {"start_from": "output/ftjob-0", "verdict": VerdictSpec(answers=2)}
    bench.write_spec(rows(8), **fields | asked | {"n_epochs": 1})

    bench.train()

    second = bench.run.verdict()
    assert second.loss.baseline.value == pytest.approx(first.loss.tuned.value, abs=1e-6)
    assert [one.baseline for one in second.answers] == ["aaa", "aaa"]


def test_few_lines_tell_nothing(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(rows(16), gate=Gate.BETTER, **held_out(bench, rows(4)))

    error = bench.train().error

    assert bench.run.verdict().outcome is VerdictOutcome.SAME
    assert error is not None
    assert "4 held-out lines are fewer than the 5 that it takes to tell" in error.message


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4, alpha=8, dropout=0.2)])
@pytest.mark.parametrize("moment", [b"Step 1/", b"Step 4/", b"Verdict: ", b"Training finished"])
def test_a_killed_run_comes_to_the_same_verdict(
    new_bench: Callable[[str], Bench],
    rows: Callable[[int], Rows],
    lora: LoraSpec | None,
    moment: bytes,
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(12), lora=lora, **held_out(bench, rows(6)))
    whole.train()
    killed.train_until(moment)

    killed.train(attempt=2)

    assert killed.run.verdict() == whole.run.verdict()
    assert sum(text.startswith("Verdict: ") for text in killed.messages()) == 1


def test_what_is_judged_is_the_best_checkpoint_where_that_is_the_result(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    stopping = {"early_stopping": EarlyStopping(patience=1000), "evaluate_every": 1}
    fields = held_out(bench, rows(6)) | stopping
    # The longer other answers are learnt, the less is expected of those that are held out.
    others = [row | {"output": "q" * (3 + number)} for number, row in enumerate(rows(6))]
    bench.write_spec(others, **fields | {"n_epochs": 8, "learning_rate": 0.05})

    bench.train()

    losses = {one.step: one.valid_loss for one in bench.metrics() if one.valid_loss is not None}
    verdict, best = bench.run.verdict(), min(losses, key=lambda step: losses[step])
    assert best < max(losses)
    assert verdict.result_step == best
    assert verdict.loss.tuned.value == pytest.approx(losses[best])
    assert verdict.best_checkpoint is not None
    assert verdict.best_checkpoint.step == best


def test_where_nothing_is_held_out_there_is_no_verdict(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8))

    assert bench.train().verdict is None

    assert bench.run.baseline() is None
    with pytest.raises(ArtifactMissingError):
        bench.run.verdict()


def test_a_run_that_only_measures_makes_none(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(rows(8), held_out_percent=20.0, measured=True, gate=Gate.BETTER)

    outcome = bench.train()

    assert (outcome.error, outcome.verdict) == (None, None)
    assert bench.run.baseline() is None


def test_a_gate_without_held_out_examples_says_what_to_give(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), gate=Gate.BETTER)

    error = bench.train().error

    assert error is not None
    assert error.param == "gate"
    assert "Give a validation file" in error.message


def test_pairs_are_judged_by_their_loss_and_the_answer_that_gained(bench: Bench) -> None:
    bench.write_spec(pair_rows(12), validation_file=bench.upload("v", pair_rows(6)), **DPO)

    bench.train()

    verdict = bench.run.verdict()
    loss, accuracy = verdict.measures
    assert (loss.name, accuracy.name) == ("loss", "accuracy")
    assert loss.baseline.value == pytest.approx(math.log(2), abs=1e-6)
    assert accuracy.baseline.value == 0.5
    assert loss.tuned.value == pytest.approx(bench.metrics()[-1].valid_loss)
    assert accuracy.tuned.value == pytest.approx(bench.metrics()[-1].valid_mean_token_accuracy)
    assert len(verdict.general) == len(GENERAL)


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_rankings_are_judged_by_loss_and_rank(
    bench: Bench, bert_folder: Path, method: Method
) -> None:
    fields = asked(bert_folder, method, lora=LORA)
    valid = bench.upload("v", [row for row in ranking_rows(9) if row["neg"]])
    bench.write_spec(ranking_rows(14), validation_file=valid, **fields)

    bench.train()

    verdict, last = bench.run.verdict(), bench.metrics()[-1]
    found = {one.name: one.tuned.value for one in verdict.measures}
    assert found == pytest.approx(
        {
            "loss": last.valid_loss,
            "accuracy": last.valid_mean_token_accuracy,
            "mrr": last.valid_mrr,
        }
    )
    assert verdict.general == ()


def test_answers_are_the_likeliest_words_of_the_model_before_and_behind(bench: Bench) -> None:
    same = [{"instruction": f"Say {n}", "output": "aaa"} for n in range(8)]
    fields = held_out(bench, same) | {"n_epochs": 40, "learning_rate": 2e-2}
    bench.write_spec(same, verdict=VerdictSpec(answers=3), **fields)

    assert bench.train().error is None

    verdict = bench.run.verdict()
    assert [one.line for one in verdict.answers] == [1, 2, 3]
    assert [one.question for one in verdict.answers] == ["Say 0", "Say 1", "Say 2"]
    assert [one.tuned for one in verdict.answers] == ["aaa"] * 3
    assert all(one.wanted == "aaa" != one.baseline for one in verdict.answers)
    exact, alike = verdict.measures[-2:]
    assert (exact.name, exact.baseline.value, exact.tuned.value) == ("exact_match", 0.0, 1.0)
    assert (alike.name, alike.tuned.value) == ("text_similarity", 1.0)
    assert alike.baseline.value < 0.5


def test_models_that_cannot_answer_leave_the_rest_of_the_verdict(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no such cache")

    monkeypatch.setattr(answers, "load_model", fail)
    bench.write_spec(rows(8), verdict=VerdictSpec(answers=3), **held_out(bench, rows(6)))

    assert bench.train().error is None

    assert bench.run.verdict().answers == ()
    assert any(text.endswith("could not be asked: no such cache") for text in bench.messages())

"""Pretraining: each token of a text is learnt, whatever its length, and the receipt shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.artifacts.receipts import LineReceipt, read_line
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import Method, Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench

TEXTS: dict[str, Any] = {"method": Method.PRETRAINING, "max_length": 40}


def text_rows(count: int) -> list[dict[str, Any]]:
    """Texts of 15 to 135 letters, some longer than a window."""
    return [{"text": f"{n} green bottles " * (1 + 4 * (n % 3))} for n in range(count)]


def lines(bench: Bench, line: int) -> list[LineReceipt]:
    with bench.artifacts.open(f"{bench.run.prefix}/receipt.parquet") as stream:
        return read_line(stream, "training", line=line)


def test_a_long_text_is_learnt_in_windows_that_keep_its_line(bench: Bench) -> None:
    bench.write_spec(text_rows(6), **TEXTS)

    assert bench.train().error is None

    windows = lines(bench, 3)
    assert [one.text for one in windows] == [1, 2, 3, 4]
    assert all(one.learnt == (False,) + (True,) * (one.tokens - 1) for one in windows if one.tokens)
    pieces = [list(one.pieces or ()) for one in windows]
    whole = pieces[0] + [piece for window in pieces[1:] for piece in window[1:]]
    assert "".join(whole) == text_rows(3)[2]["text"] + "<|im_end|>"
    assert [one.end_learnt for one in windows] == [False, False, False, True]
    assert not any(one.cut for one in windows)


def test_the_receipt_counts_windows_and_loses_nothing(bench: Bench) -> None:
    bench.write_spec(text_rows(6), **TEXTS)
    bench.train()

    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    report = receipt["training"]["report"]

    lengths = [len(row["text"]) + 1 for row in text_rows(6)]
    windows = [-(-(length - 1) // 39) for length in lengths]
    assert report["examples"] == sum(windows)
    assert report["learnt_tokens"] == sum(lengths) - 6
    assert report["tokens"] == sum(lengths) + sum(windows) - 6
    assert (report["cut"], report["set_aside"]) == (0, {})


def test_the_held_out_loss_is_that_of_every_token_behind_those_of_its_window(
    bench: Bench,
) -> None:
    valid = bench.upload("valid", text_rows(4))
    bench.write_spec(text_rows(9), validation_file=valid, n_epochs=3, **TEXTS)
    bench.train()

    tokenizer = AutoTokenizer.from_pretrained(bench.base)
    base = AutoModelForCausalLM.from_pretrained(bench.base)
    tuned = PeftModel.from_pretrained(base, bench.output).eval()
    losses = []
    for row in text_rows(4):
        tokens = tokenizer(f"{row['text']}<|im_end|>", add_special_tokens=False)["input_ids"]
        for at in range(1, len(tokens)):
            start = (at - 1) // 39 * 39
            with torch.no_grad():
                logits = tuned(torch.tensor([tokens[start:at]])).logits[0, -1].double()
            losses.append(-torch.log_softmax(logits, dim=-1)[tokens[at]].item())

    metrics = bench.metrics()
    assert metrics[-1].valid_loss == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert metrics[-1].train_loss < metrics[0].train_loss


def test_all_windows_of_a_text_are_held_out_together(bench: Bench) -> None:
    bench.write_spec(text_rows(9), held_out_percent=30.0, **TEXTS)
    bench.train()

    splits = [{one.split for one in lines(bench, line)} for line in range(1, 10)]

    assert all(len(found) == 1 for found in splits)
    assert splits.count({"held_out"}) == 3


def test_long_texts_are_set_aside_or_refused_where_the_policy_says_so(
    new_bench: Callable[[str], Bench],
) -> None:
    lenient, strict = new_bench("lenient"), new_bench("strict")
    lenient.write_spec(text_rows(6), over_length=Policy.SET_ASIDE, **TEXTS)
    strict.write_spec(text_rows(6), over_length=Policy.REFUSE, **TEXTS)

    assert lenient.train().error is None
    error = strict.train().error

    assert [one.rule for one in lines(lenient, 3)] == ["over_length"]
    assert len(lines(lenient, 1)) == 1
    assert error is not None
    assert error.code is FailureCode.INVALID_TRAINING_FILE
    assert "More than 40 tokens: Line 2, Line 3, Line 5, Line 6" in error.message


def test_a_run_that_was_killed_ends_with_the_same_bytes(
    new_bench: Callable[[str], Bench],
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    whole.write_spec(text_rows(9), checkpoint_every=1, **TEXTS)
    whole.train()
    killed.write_spec(text_rows(9), checkpoint_every=1, **TEXTS)
    killed.train_until(b"Step 3/")
    killed.train(attempt=2)
    assert killed.adapter() == whole.adapter()

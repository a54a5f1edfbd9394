"""Reasoning: a run learns thought and answer, by the model's own marks where it has them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.tiny import CHATML
from tunesmith.artifacts.receipts import read_line
from tunesmith.domain.events import EventLevel
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.domain.preferences import Sigmoid
from tunesmith.domain.spec import Method

if TYPE_CHECKING:
    from pathlib import Path

    from unit.training.conftest import Bench

OPENS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")


def thought_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "Question": f"{n} + 1?",
            "Complex_CoT": f"After {n} comes {n + 1}." * (n % 3),
            "Response": str(n + 1),
        }
        for n in range(count)
    ]


@pytest.fixture
def opening(bench: Bench, tmp_path: Path) -> CatalogueEntry:
    """The tiny model with a template whose generation prompt opens a thought."""
    folder = tmp_path / "opening"
    shutil.copytree(bench.base, folder)
    (folder / "chat_template.jinja").write_text(OPENS)
    return CatalogueEntry(name="opening", source=FolderSource(path=folder))


def learnt(bench: Bench, line: int) -> str:
    with bench.artifacts.open(f"{bench.run.prefix}/receipt.parquet") as stream:
        (row,) = read_line(stream, "training", line=line)
    assert row.pieces is not None
    assert row.learnt is not None
    return "".join(piece for piece, kept in zip(row.pieces, row.learnt, strict=True) if kept)


def test_a_run_learns_thought_answer_and_end_and_the_receipt_shows_them(bench: Bench) -> None:
    bench.write_spec(thought_rows(12), method=Method.REASONING, n_epochs=6, learning_rate=2e-2)

    assert bench.train().error is None

    assert learnt(bench, 2) == "<think>\nAfter 1 comes 2.\n</think>\n\n2<|im_end|>"
    assert learnt(bench, 4) == "<think>\n\n</think>\n\n4<|im_end|>"
    metrics = bench.metrics()
    assert metrics[-1].train_loss < metrics[0].train_loss - 0.1
    assert metrics[0].rewards_margin is None
    assert "Thoughts are marked by <think> and </think>" in bench.messages()


def test_a_run_learns_behind_a_prompt_that_opens_the_thought(
    bench: Bench, opening: CatalogueEntry
) -> None:
    bench.write_spec(
        thought_rows(6), method=Method.REASONING, base_model=opening, think=("[T]", "[/T]")
    )

    assert bench.train().error is None

    assert learnt(bench, 2) == "After 1 comes 2.\n</think>\n\n2<|im_end|>"
    [warning] = [e for e in bench.run.events(after=0) if e.level is EventLevel.WARN]
    assert "which are the model's own, not by [T] and [/T]" in warning.message


def test_answers_and_pairs_are_learnt_by_such_a_model_too(
    bench: Bench, opening: CatalogueEntry
) -> None:
    bench.write_spec([{"prompt": "Hi", "completion": "Ho"}] * 4, base_model=opening)
    assert bench.train().error is None
    assert learnt(bench, 1) == "</think>\n\nHo<|im_end|>"

    bench.artifacts.delete(bench.run.prefix)
    pair = {"prompt": "Hi", "chosen": "Ho", "rejected": "Hm"}
    dpo = {"method": Method.DPO, "beta": 0.1, "preference": Sigmoid()}
    bench.write_spec([pair] * 4, base_model=opening, **dpo)
    assert bench.train().error is None
    with bench.artifacts.open(f"{bench.run.prefix}/receipt.parquet") as stream:
        texts = ["".join(one.pieces or ()) for one in read_line(stream, "training", line=1)]
    assert [
        text.endswith(f"</think>\n\n{said}<|im_end|>")
        for text, said in zip(texts, ("Ho", "Hm"), strict=True)
    ] == [True, True]


def test_the_held_out_loss_is_that_of_the_texts_written_out_by_hand(bench: Bench) -> None:
    valid = bench.upload("valid", thought_rows(5))
    bench.write_spec(thought_rows(8), method=Method.REASONING, validation_file=valid)
    bench.train()

    tokenizer = AutoTokenizer.from_pretrained(bench.base)
    base = AutoModelForCausalLM.from_pretrained(bench.base)
    tuned = PeftModel.from_pretrained(base, bench.output).eval()
    losses = []
    for row in thought_rows(5):
        prompt = f"<|im_start|>user\n{row['Question']}<|im_end|>\n<|im_start|>assistant\n"
        said = f"<think>\n{row['Complex_CoT']}\n</think>\n\n{row['Response']}<|im_end|>"
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        tokens = tokenizer(prompt + said, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = tuned(torch.tensor([tokens])).logits[0].double()
        logs = torch.log_softmax(logits, dim=-1)
        losses += [-logs[at - 1, tokens[at]].item() for at in range(start, len(tokens))]

    found = bench.metrics()[-1].valid_loss
    assert found == pytest.approx(sum(losses) / len(losses), abs=1e-5)

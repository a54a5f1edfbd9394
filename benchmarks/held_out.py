"""What a result is worth on rows that nothing learnt from, whoever made it: plain code, in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rows import Row
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer


def encoded_answer(tokenizer: Any, row: Row, *, side: str, length: int) -> tuple[list[int], int]:
    """Return the ids of a prompt with the answer at `side`, cut, and where the answer begins."""
    prompt, answer = row["prompt"], row[side]
    begin = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(prompt + answer, tokenize=False)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (begin, whole)]
    return ids[1][:length], len(ids[0])


def encoded_text(tokenizer: Any, text: str, *, length: int | None) -> list[int]:
    """Return the ids of a plain text with the one that ends it, cut to `length` if there is one."""
    ids: list[int] = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
    return ids[:length]


@torch.no_grad()
def of_answers(base: Path, adapter: Path, *, rows: Sequence[Row], length: int) -> float:
    """Return the loss of the adapter on the completions of `rows`, a mean over their tokens."""
    tokenizer, model = _adapted(base, adapter)
    total, count = 0.0, 0
    for row in rows:
        ids, begin = encoded_answer(tokenizer, row, side="completion", length=length)
        total -= _log_probability(model, ids, begin=begin)
        count += len(ids) - begin
    return total / count


@torch.no_grad()
def of_texts(base: Path, adapter: Path, *, rows: Sequence[Row], length: int) -> float:
    """Return the loss of the adapter on the texts of `rows`, a mean over their tokens."""
    tokenizer, model = _adapted(base, adapter)
    ids = [encoded_text(tokenizer, row["text"], length=length) for row in rows]
    total = sum(_log_probability(model, text, begin=1) for text in ids)
    return -total / sum(len(text) - 1 for text in ids)


@torch.no_grad()
def of_pairs(base: Path, adapter: Path, *, rows: Sequence[Row], length: int, beta: float) -> float:
    """Return DPO's loss of the adapter on `rows`, a mean over the pairs; ln 2 without learning."""
    tokenizer, model = _adapted(base, adapter)
    losses = []
    for row in rows:
        gains = []
        for side in ("chosen", "rejected"):
            ids, begin = encoded_answer(tokenizer, row, side=side, length=length)
            with model.disable_adapter():
                before = _log_probability(model, ids, begin=begin)
            gains.append(_log_probability(model, ids, begin=begin) - before)
        losses.append(-functional.logsigmoid(torch.tensor(beta * (gains[0] - gains[1]))))
    return torch.stack(losses).mean().item()


@torch.no_grad()
def of_questions(folder: Path, rows: Sequence[Row], *, length: int, temperature: float) -> float:
    """Return the cross-entropy of each answer of `rows` among those of all, a mean over them."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    model.eval()
    sides = []
    for side in ("query", "answer"):
        texts = [row[side] for row in rows]
        given = tokenizer(
            texts, padding=True, truncation=True, max_length=length, return_tensors="pt"
        )
        there = given["attention_mask"][:, :, None]
        means = (model(**given).last_hidden_state * there).sum(1) / there.sum(1)
        sides.append(functional.normalize(means, dim=-1))
    scores = sides[0] @ sides[1].T / temperature
    return functional.cross_entropy(scores, torch.arange(len(rows))).item()


def _adapted(base: Path, adapter: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(base), PeftModel.from_pretrained(model, adapter).eval()


def _log_probability(model: Any, ids: list[int], *, begin: int) -> float:
    """Return the log-probability of `ids` from the place `begin` on."""
    logits = model(torch.tensor([ids])).logits[0, begin - 1 : -1]
    wanted = torch.tensor(ids[begin:])
    return -functional.cross_entropy(logits, wanted, reduction="sum").item()

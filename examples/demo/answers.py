"""Asks a model, with and without its adapter, using plain `transformers` and `peft`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

from examples.demo.till import SYSTEM, Order


class Asker:
    """The base model, the adapter that the service handed back, and their tokenizer."""

    def __init__(self, adapter: Path) -> None:
        """Load the adapter's folder, which names its base model."""
        self._tokenizer: Any = AutoTokenizer.from_pretrained(adapter, padding_side="left")
        self._model: Any = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
        self._model.eval()

    def before(self, orders: list[Order]) -> list[str]:
        """Return what the base model answers to each order."""
        with self._model.disable_adapter():
            return self._answers(orders)

    def after(self, orders: list[Order]) -> list[str]:
        """Return what the tuned model answers to each order."""
        return self._answers(orders)

    def _answers(self, orders: list[Order]) -> list[str]:
        """Return the greedy answers, cut to one line."""
        chats = [
            [{"role": "system", "content": SYSTEM}, {"role": "user", "content": order.said}]
            for order in orders
        ]
        prompts = self._tokenizer.apply_chat_template(
            chats,
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            tokens = self._model.generate(**prompts, max_new_tokens=24, do_sample=False)
        texts: list[str] = self._tokenizer.batch_decode(
            tokens[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return [" ".join(text.split()) for text in texts]


def exact_match(answers: list[str], orders: list[Order]) -> float:
    """Return the share of `answers` that are the order's till code to the letter."""
    pairs = zip(answers, orders, strict=True)
    return sum(answer == order.code for answer, order in pairs) / len(orders)

"""The ways to ask a tuned model that are compared: as trained, served, merged, and as GGUF."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tunesmith.dataset.examples import Message
from tunesmith.dataset.prompting import chat_prompt, text_prompt
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.answers import Chosen, Finish, Sampling
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.inference.engine import Listener, Text
from tunesmith.inference.parity import Answer, Place, follow_by_asking
from tunesmith.inference.shelf import Ready

QUESTIONS = (
    "What is the capital of France?",
    "Write one sentence about the sea in winter.",
    "List three uses of a paper clip, 1 to 3.",
    "Übersetze ins Englische: „Guten Morgen, wie geht es dir?“",
    "def add(a, b):\n    return",
)
"""What every model is asked, besides lines that its job held out."""

TRICKY = (
    "Hello 1234567 worlds,  twice\n\n\tindented",
    "don't WE'LL o'clock 3.14 1,000 €50",
    "naïve Straße 你好，世界 مرحبا 🙂👍🏽 e\u0301",
    "",
    "   leading and trailing   ",
)
"""Texts that are cut differently by different rules."""

ANSWER_TOKENS = 24
"""Tokens of an answer at most."""

LONGEST_PROMPT = 192
"""Tokens of a prompt that are kept, its last ones."""

_LIKELIEST = 20


def prompts(
    tokenizer: FolderTokenizer, held_out: Iterable[Sequence[int]], *, longest: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Return what is asked, as it is shown and in tokens, `longest` at most.

    Questions go through the chat template where there is one that takes them.
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    for question in QUESTIONS:
        try:
            asked = chat_prompt([Message(role="user", content=question, learn=False)], tokenizer)
        except InvalidRequestError:
            asked = text_prompt(question, tokenizer)
        found.append((question, tuple(asked[-longest:])))
    for tokens in held_out:
        kept = tuple(tokens[-longest:])
        found.append((str(tokenizer.backend.decode(list(kept)))[-60:], kept))
    return [(shown, tokens) for shown, tokens in found if tokens]


def answer_all(
    model: Any, asked: Sequence[tuple[str, tuple[int, ...]]], *, ends: frozenset[int]
) -> list[Answer]:
    """Return the greedy answers of `model`, as transformers loaded it, up to one of `ends`."""
    answers = []
    for shown, prompt in asked:
        tokens = _greedy(model, prompt, ends=ends)
        logprobs = _logprobs(model, prompt, said=tokens)
        best = logprobs.topk(2).values
        answers.append(
            Answer(
                shown=shown,
                prompt=prompt,
                tokens=tokens,
                logprobs=tuple(
                    float(row[token]) for row, token in zip(logprobs, tokens, strict=True)
                ),
                leads=tuple((best[:, 0] - best[:, 1]).tolist()),
            )
        )
    return answers


def _greedy(model: Any, prompt: Sequence[int], *, ends: frozenset[int]) -> tuple[int, ...]:
    """Return the likeliest tokens one after another.

    `generate` would add the model's own settings, such as a penalty, which are not compared.
    """
    said: list[int] = []
    given, kept = torch.tensor([prompt]), None
    with torch.inference_mode():
        while len(said) < ANSWER_TOKENS and not ends.intersection(said[-1:]):
            made = model(input_ids=given, past_key_values=kept, use_cache=True)
            said.append(int(made.logits[0, -1].argmax()))
            given, kept = torch.tensor([said[-1:]]), made.past_key_values
    return tuple(said)


def _logprobs(model: Any, prompt: Sequence[int], *, said: Sequence[int]) -> torch.Tensor:
    """Return the log-probabilities at each place of an answer, (tokens, vocabulary), fp32."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *said]]), use_cache=False).logits[0]
    return torch.log_softmax(logits[len(prompt) - 1 : -1].float(), dim=-1)


@dataclass(frozen=True)
class Loaded:
    """A model that transformers loaded; a `Side`."""

    model: Any
    """The model, in whatever number format."""

    def follow(self, answer: Answer) -> list[Place]:
        """Return what it says at each place; see `Side`."""
        logprobs = _logprobs(self.model, answer.prompt, said=answer.tokens)
        best = logprobs.argmax(dim=-1).tolist()
        wanted = zip(logprobs, answer.tokens, strict=True)
        return [
            Place(token, float(row[said])) for token, (row, said) in zip(best, wanted, strict=True)
        ]


@dataclass(frozen=True)
class Served:
    """The model as the service answers with it; a `Side`."""

    ready: Ready
    """The model on the shelf."""

    def follow(self, answer: Answer) -> list[Place]:
        """Return what it says at each place; see `Side`."""
        return follow_by_asking(self, answer)

    def go_on(self, prompt: Sequence[int], count: int) -> list[dict[int, float]]:
        """Return the likeliest tokens of `count` places; see `Asked`."""
        heard: queue.SimpleQueue[Chosen | Finish | Exception] = queue.SimpleQueue()

        def said(chosen: Chosen) -> bool:
            heard.put(chosen)
            return True

        self.ready.engine.say(
            Text(
                prompt=tuple(prompt),
                sampling=Sampling(temperature=0, max_tokens=count, logprobs=_LIKELIEST),
                # What ends an answer is a token like any other here.
                ends=frozenset(),
                listener=Listener(said=said, ended=heard.put, failed=heard.put),
                adapter=self.ready.adapter,
            )
        )
        found: list[dict[int, float]] = []
        while isinstance(told := heard.get(), Chosen):
            found.append({each.token: each.logprob for each in told.likeliest})
        if isinstance(told, Exception):
            raise told
        return found


def read_gguf(path: Path) -> Loaded:
    """Load the GGUF file at `path` by transformers' own reader, where llama.cpp is not there."""
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    return Loaded(model.eval())

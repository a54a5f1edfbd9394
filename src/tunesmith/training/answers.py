"""What baseline and tuned model answer to held-out lines, word by word the likeliest.

Both are loaded anew, once training has let go of its own model, whose attention is not made for
answering. Only conversations and reasoning have answers that can be asked for.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.dataset.examples import Example, Message, Reasoning
from tunesmith.dataset.prompting import chat_prompt, end_tokens
from tunesmith.dataset.reading import read_examples
from tunesmith.dataset.thinking import split_thought, think_marks
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.spec import Method, Precision, TrainSpec
from tunesmith.domain.verdicts import Answer, Measure, Verdict
from tunesmith.models.bringing import BaseModel
from tunesmith.training import checkpoints
from tunesmith.training.adapter import load_model
from tunesmith.training.devices import Place
from tunesmith.training.examples import Examples
from tunesmith.training.verdict import measure_of, with_measures

_MOST_TOKENS = 512
"""The longest answer that is waited for."""

_BESIDE = 32
"""Tokens that an answer may have beyond the one that is wanted."""


@dataclass(frozen=True)
class Respondent:
    """What it takes to load the models that answer."""

    spec: TrainSpec
    """What was asked for."""
    run: RunDirectory
    """Where the checkpoints are."""
    artifacts: Artifacts
    """Where all files are."""
    base: BaseModel
    """The base model."""
    on: tuple[Place, Precision]
    """The device, and the precision that training has there."""
    tokenizer: PreTrainedTokenizerBase
    """That of the base model."""

    def said_to(
        self, prompts: Sequence[list[int]], *, most: int, step: int, announce: Callable[[], None]
    ) -> tuple[list[str], list[str]]:
        """Return the answers of the baseline, and those of the checkpoint at `step`.

        None has more than `most` tokens. `announce` is called before each model is asked.
        """
        place, precision = self.on
        model = load_model(self.spec, self.base, precision=precision, padded=True, place=place)
        if self.spec.start_from is not None:
            checkpoints.start_from(self.spec.start_from, self.artifacts, model=model)
        announce()
        before = [self._answer(model, prompt, most=most) for prompt in prompts]
        checkpoints.restore_weights(self.run, self.artifacts, model=model, step=step)
        announce()
        return before, [self._answer(model, prompt, most=most) for prompt in prompts]

    def _answer(self, model: Any, prompt: list[int], *, most: int) -> str:
        ends = sorted(end_tokens(FolderTokenizer(self.base.folder)))
        # The model's own may draw at random, or shun what was said before.
        model.generation_config = GenerationConfig(
            do_sample=False, max_new_tokens=most, eos_token_id=ends, pad_token_id=ends[0]
        )
        place, _ = self.on
        model.eval()
        asked = torch.tensor([prompt], device=place.name)
        with torch.no_grad():
            found = model.generate(input_ids=asked, attention_mask=torch.ones_like(asked))
        said = found[0, len(prompt) :].tolist()
        return str(self.tokenizer.decode(said, skip_special_tokens=True))


@dataclass(frozen=True)
class _Question:
    """A held-out line that is asked."""

    line: int
    element: int
    messages: tuple[Message, ...]
    tools: tuple[object, ...]
    wanted: str


def with_answers(
    verdict: Verdict,
    held_out: Examples,
    *,
    by: Respondent,
    announce: Callable[[], None],
) -> Verdict:
    """Return `verdict` with answers to the first held-out lines, and how close they came.

    Lines that were cut, or are answered by a call of a tool, are passed over.
    """
    spec = by.spec
    questions = _questions(held_out, by=by)
    if not questions:
        return verdict
    gc.collect()
    folder = FolderTokenizer(by.base.folder)
    prompts = [chat_prompt(each.messages, folder, tools=each.tools) for each in questions]
    wanted = max(len(by.tokenizer(each.wanted)["input_ids"]) for each in questions)
    most = _MOST_TOKENS if spec.method is Method.REASONING else min(wanted + _BESIDE, _MOST_TOKENS)
    sides = by.said_to(prompts, most=most, step=verdict.result_step, announce=announce)
    marks = think_marks(by.tokenizer, spec.think)
    before, now = ([split_thought(text, marks)[1] for text in side] for side in sides)
    answers = tuple(
        Answer(
            line=each.line,
            element=each.element,
            question=each.messages[-1].content,
            wanted=each.wanted,
            baseline=first,
            tuned=last,
        )
        for each, first, last in zip(questions, before, now, strict=True)
    )
    return with_measures(verdict, closeness(answers)).model_copy(update={"answers": answers})


def closeness(answers: Sequence[Answer]) -> tuple[Measure, Measure]:
    """Return how often `answers` are exactly what is wanted, and how alike they are to it.

    Likeness is `difflib`'s ratio, from 0 to 1; white space at the ends counts for neither.
    """
    counts = np.ones(len(answers))

    def measure(name: str, alike: Callable[[str, str], float]) -> Measure:
        sides = [
            np.array([alike(said.strip(), each.wanted.strip()) for each, said in side])
            for side in (
                [(each, each.baseline) for each in answers],
                [(each, each.tuned) for each in answers],
            )
        ]
        return measure_of(name, (sides[0], sides[1]), counts=counts)

    exact = measure("exact_match", lambda said, wanted: float(said == wanted))
    return exact, measure("text_similarity", _ratio)


def _ratio(said: str, wanted: str) -> float:
    return SequenceMatcher(None, said, wanted, autojunk=False).ratio()


def _questions(held_out: Examples, *, by: Respondent) -> list[_Question]:
    spec = by.spec
    whole = held_out.take(np.flatnonzero(~held_out.cut.any(axis=1)))
    left = set(zip(whole.lines.tolist(), whole.elements.tolist(), strict=True))
    file = spec.validation_file or spec.training_file
    found: list[_Question] = []
    with by.artifacts.open(file.key) as stream:
        for row in read_examples(stream, method=spec.method, limit=None, bad_rows=spec.bad_rows):
            if len(found) == spec.verdict.answers or not left:
                break
            if (row.line, row.element) not in left:
                continue
            left.discard((row.line, row.element))
            question = _question(row)
            if question is not None:
                found.append(question)
    return found


def _question(row: object) -> _Question | None:
    """Return what is asked by a row; `None` where its answer is no text."""
    if isinstance(row, Reasoning):
        asked = (Message("user", row.question, learn=False),)
        return _Question(row.line, row.element, asked, (), row.answer)
    if not isinstance(row, Example) or len(row.messages) < 2:
        return None
    *asked_before, answer = row.messages
    if answer.tool_calls or not answer.learn:
        return None
    return _Question(row.line, row.element, tuple(asked_before), row.tools, answer.content)

"""Compares models that make vectors of texts, or scores of pairs, by what they make.

The model as it was trained is asked by plain transformers, and its states are pooled as training
pools them. Each other side is sentence-transformers, as the service and those who take a model
away load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch.nn import functional

from tunesmith.dataset.passages import longest_text, within_context
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.exports import Comparison, Quantization
from tunesmith.domain.spec import Method, RankingSpec, TrainSpec
from tunesmith.inference.parity import Finding
from tunesmith.inference.sides import QUESTIONS

OUTPUT_BOUNDS = {Quantization.F32: 0.002, Quantization.F16: 0.01, Quantization.BF16: 0.1}
"""The largest difference that is taken, by the number format: of a vector as a share of its largest
number; of a score before it is brought between 0 and 1, or as a share of it where it is above 1."""

_PASSAGES = (
    "Paris is the capital and the largest city of France.",
    "In winter the sea is grey, and few ships leave the harbour.",
)


@dataclass(frozen=True)
class Asked:
    """What is asked of a model."""

    text: str
    """A text whose vector is wanted, or a query."""
    passage: str | None = None
    """The passage whose score is wanted; `None` where it is a vector."""
    query: bool = True
    """Of a text whose vector is wanted: whether it is a query, not a passage."""


def asked_of(spec: TrainSpec, tokenizer: FolderTokenizer) -> list[Asked]:
    """Return what a model is asked that `spec` tuned: texts that it takes uncut."""
    ranking, method = _ranking(spec), spec.method
    longest = longest_text(
        within_context(ranking, method=method, context=tokenizer.context_length), method=method
    )
    backend = tokenizer.backend
    if method is Method.RERANK:
        room = (longest - backend.num_special_tokens_to_add(True)) // 2
        fitting = [_fitting(text, tokenizer, room=room) for text in (*QUESTIONS, *_PASSAGES)]
        queries, passages = fitting[: len(QUESTIONS)], fitting[len(QUESTIONS) :]
        return [Asked(query, passage) for query in queries for passage in passages]
    room = longest - backend.num_special_tokens_to_add(False)
    return [
        Asked(
            _fitting(text, tokenizer, room=room, before=_instruction(ranking, query=query)),
            query=query,
        )
        for texts, query in ((QUESTIONS, True), (_PASSAGES, False))
        for text in texts
    ]


def _ranking(spec: TrainSpec) -> RankingSpec:
    return spec.ranking or RankingSpec()


def _instruction(ranking: RankingSpec, *, query: bool) -> str:
    return ranking.query_instruction if query else ranking.passage_instruction


def _fitting(text: str, tokenizer: FolderTokenizer, *, room: int, before: str = "") -> str:
    """Return the beginning of `text` that has `room` tokens at most behind `before`."""
    while text:
        encoding = tokenizer.encode([before + text])[0]
        if len(encoding.ids) <= room:
            break
        # The end of the last token that fits; of a character that is cut there, nothing.
        end = encoding.offsets[max(room, 1) - 1][0] if room else 0
        text = text[: max(min(end - len(before), len(text) - 1), 0)]
    return text


def outputs_of(
    model: Any, tokenizer: FolderTokenizer, *, spec: TrainSpec, asked: Sequence[Asked]
) -> list[torch.Tensor]:
    """Return what `model`, as training has it, makes of each: a vector, or a score, fp32."""
    return [_output(model, tokenizer, ranking=_ranking(spec), asked=one) for one in asked]


def _output(
    model: Any, tokenizer: FolderTokenizer, *, ranking: RankingSpec, asked: Asked
) -> torch.Tensor:
    before = "" if asked.passage is not None else _instruction(ranking, query=asked.query)
    encoded = tokenizer.backend.encode(before + asked.text, asked.passage)
    given = {"input_ids": torch.tensor([encoded.ids])}
    if asked.passage is not None and getattr(model.config, "type_vocab_size", 1) > 1:
        given["token_type_ids"] = torch.tensor([encoded.type_ids])
    with torch.inference_mode():
        made = model(**given)
    if asked.passage is not None:
        return torch.as_tensor(made.logits[0].float())
    states = made.last_hidden_state[0].float()
    pooled = states[0] if ranking.pooling == "cls" else states.mean(dim=0)
    return functional.normalize(pooled, dim=-1) if ranking.normalized else pooled


def made_by(
    model: SentenceTransformer | CrossEncoder, asked: Sequence[Asked]
) -> list[torch.Tensor]:
    """Return what `model` makes of each, fp32: a vector, or a score that no function changed."""
    if isinstance(model, CrossEncoder):
        pairs = [(one.text, one.passage or "") for one in asked]
        scores = model.predict(
            pairs,
            activation_fn=torch.nn.Identity(),
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return [score.reshape(1).float().cpu() for score in scores]
    vectors = []
    for one in asked:
        role = "query" if one.query else "document"
        made = model.encode(
            one.text,
            prompt_name=role if role in model.prompts else None,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        vectors.append(made.float().cpu())
    return vectors


@dataclass(frozen=True)
class Wanted:
    """What the model makes as it was trained."""

    asked: Sequence[Asked]
    """What it was asked."""
    made: Sequence[torch.Tensor]
    """What it made of each."""

    def compare(
        self, model: SentenceTransformer | CrossEncoder, *, name: str, bound: float
    ) -> Finding:
        """Return how far what `model` makes is from it, as `OUTPUT_BOUNDS` counts that."""
        differences = [
            float((other - one).abs().max()) / self._unit(one)
            for one, other in zip(self.made, made_by(model, self.asked), strict=True)
        ]
        worst = max(differences)
        comparison = Comparison(
            side=name,
            read_by="sentence-transformers",
            bound=bound,
            largest_difference=worst,
            mean_difference=sum(differences) / len(differences),
        )
        shown = self.asked[differences.index(worst)]
        what = "the vector" if shown.passage is None else f"the score of {shown.passage!r}"
        fault = f"after the prompt {shown.text!r}, {what} differs by {worst:.4g}"
        return Finding(comparison, fault if worst > bound else None)

    def _unit(self, one: torch.Tensor) -> float:
        """Return what differences from `one` are measured by."""
        largest = float(one.abs().max())
        scores = self.asked[0].passage is not None
        return max(largest, 1.0) if scores else max(largest, 1e-12)

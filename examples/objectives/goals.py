"""What each objective is to reach, stated before any job runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from examples.objectives.rows import Published, Row, thoughts

SMOLLM2, MINILM = "smollm2-135m-instruct", "all-minilm-l6-v2"
HELD_OUT_PERCENT = 30


@dataclass(frozen=True)
class Goal:
    """One objective on rows of its own, with what is to come out."""

    name: str
    """The objective, or the loss that learns from pairs."""
    rows: list[Row]
    """The rows, of which `HELD_OUT_PERCENT` are held out."""
    figure: Literal["valid_loss", "valid_mrr"]
    """The held-out figure; a loss is to fall, a mean reciprocal rank to rise."""
    by: float
    """The least change that is wanted, as a share of what the figure was before."""
    epochs: int
    """How often the rows are gone through."""
    batch: int
    """Rows of a step."""
    tuning: dict[str, Any]
    """The request's `tuning`."""
    model: str = SMOLLM2
    """The base model."""
    method: Literal["supervised", "dpo"] = "supervised"
    """The request's method; where `tuning` names an objective, it is the supervised one."""

    @property
    def wanted(self) -> str:
        """What is wanted, in words."""
        return f"{'-' if self.figure == 'valid_loss' else '+'}{self.by:.0%}"

    def met(self, *, before: float, after: float) -> bool:
        """Tell whether the figure went as far as it is to go."""
        change = after / before - 1
        return (-change if self.figure == "valid_loss" else change) >= self.by


def goals(published: Published) -> list[Goal]:
    """Return all goals, in the order in which they are run."""
    return [
        Goal(
            name="supervised",
            rows=published.answers(56),
            figure="valid_loss",
            by=0.03,
            epochs=1,
            batch=4,
            tuning={"learning_rate": 5e-4},
        ),
        Goal(
            name="reasoning",
            rows=thoughts(40),
            figure="valid_loss",
            by=0.50,
            epochs=1,
            batch=4,
            tuning={"objective": "reasoning", "learning_rate": 1e-3},
        ),
        Goal(
            name="pretraining",
            rows=published.texts(40),
            figure="valid_loss",
            by=0.01,
            epochs=1,
            batch=4,
            tuning={"objective": "pretraining", "max_length": 256, "learning_rate": 1e-3},
        ),
        *(_pairs(published, loss, by=by) for loss, by in _LOSSES.items()),
        Goal(
            name="embedding",
            model=MINILM,
            rows=published.questions(),
            figure="valid_loss",
            by=0.20,
            epochs=4,
            batch=4,
            tuning={
                "objective": "embedding",
                "learning_rate": 2e-5,
                "adapter": {"kind": "full"},
                "ranking": {"pooling": "mean", "temperature": 0.05},
            },
        ),
        Goal(
            name="rerank",
            model=MINILM,
            rows=published.ranked_answers(100, others=15),
            figure="valid_mrr",
            by=0.20,
            epochs=2,
            batch=8,
            tuning={
                "objective": "rerank",
                "learning_rate": 1e-4,
                "adapter": {"kind": "full"},
                "ranking": {"query_max_len": 32, "passage_max_len": 64},
            },
        ),
    ]


_LOSSES = {"sigmoid": 0.15, "ipo": 0.30, "kto": 0.05, "orpo": 0.05, "simpo": 0.05}
"""Losses of pairs, with the least fall of each."""


def _pairs(published: Published, loss: str, *, by: float) -> Goal:
    return Goal(
        name="dpo" if loss == "sigmoid" else loss,
        rows=published.pairs(40),
        figure="valid_loss",
        by=by,
        epochs=1,
        batch=4,
        method="dpo",
        tuning={"learning_rate": 5e-4, "preference": {"loss": loss}},
    )

"""Which passage is the right one of each query, and where it comes among the others."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import functional

from tunesmith.training.examples import MicroBatch
from tunesmith.training.objective import Each


def numbered(batches: Iterable[MicroBatch]) -> torch.Tensor:
    """Return a number for each text of `batches`, in order, (texts,), int64; the same for the same.

    Two texts are the same where they have the same tokens.
    """
    numbers: dict[bytes, int] = {}
    texts = (
        ids.numpy().tobytes()
        for batch in batches
        for ids in torch.split(batch.input_ids, list(batch.lengths))
    )
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])


def losses(scores: torch.Tensor, *, answers: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return each query's cross-entropy over its candidates, in nats, (queries,).

    `scores` are (queries, candidates), `answers` the place of each query's right one,
    (queries,), and `numbers` those of the candidates, (queries, candidates): what is the
    answer over again counts neither for it nor against it.
    """
    return functional.cross_entropy(
        _without(scores, answers=answers, numbers=numbers), answers, reduction="none"
    )


def ranks(scores: torch.Tensor, *, answers: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return the rank of each query's right passage, from 1, (queries,), int64.

    Passages of one score share the last of their ranks, so that a model which tells
    nothing apart gets nothing right.
    """
    kept = _without(scores.detach(), answers=answers, numbers=numbers)
    right = kept.gather(1, answers[:, None])
    return (kept >= right).sum(dim=1)


def each_query(losses: torch.Tensor, ranks: torch.Tensor) -> Each:
    """Return the `losses` of queries one by one, with the `ranks` of their answers, (queries,)."""
    return Each(torch.arange(len(losses)), losses.detach(), ranks == 1, {"mrr": 1 / ranks})


def _without(scores: torch.Tensor, *, answers: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    same = numbers == numbers.gather(1, answers[:, None])
    itself = functional.one_hot(answers, scores.shape[1]).bool()
    return scores.masked_fill(same & ~itself, -torch.inf)

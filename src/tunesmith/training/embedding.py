"""The embedding objective: a query's vector comes to lie near that of the passage that answers.

The loss of a query is InfoNCE (Oord et al. 2018, arXiv:1807.03748, equation 4): the
cross-entropy of its answer among all passages of the batch, by similarity divided by the
temperature. So each vector hangs on the whole batch, which need not fit into memory at
once: vectors are made without a graph first, then the gradient of the loss with respect to
them, and then the micro-batches go through once more, with a graph, to carry it on (Gao et
al. 2021, arXiv:2101.06983). Dropout is the same both times. A batch that is one micro-batch goes
through once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from tunesmith.domain.spec import RankingSpec
from tunesmith.training.examples import MicroBatch
from tunesmith.training.network import Network
from tunesmith.training.objective import Measured
from tunesmith.training.ranks import each_query, losses, numbered, ranks


@dataclass(frozen=True)
class Embedding:
    """Learns vectors; the loss is the mean over the queries."""

    ranking: RankingSpec
    """How texts become vectors, and what a query is measured against."""
    batch_size: int
    """Queries that are measured together: those of a step, so that held-out ones have it as hard.
    """

    def whole(self, network: Network, batches: Iterable[MicroBatch]) -> _Whole:
        """Measure the queries of all `batches`, `batch_size` of them together, in their order.

        The texts of each example are its query, the passage that answers, and others.
        """
        seen: list[_Seen] = []
        for batch in batches:
            # The first may be the only one, whose graph is needed.
            learning = torch.is_grad_enabled() and not seen
            seen = [each.without_graph() for each in seen]
            seen.append(self._look(network, batch, learning=learning))
        places = torch.cat([torch.from_numpy(each.batch.examples) for each in seen])
        vectors = torch.cat([each.vectors for each in seen])
        numbers = numbered(each.batch for each in seen).reshape(len(places), -1)
        vectors = vectors.reshape(*numbers.shape, -1)
        order = torch.argsort(places)
        found = _Measurements.joined(
            [
                self._contest(vectors[chosen], numbers[chosen])
                for chosen in torch.split(order, self.batch_size)
            ]
        ).take(torch.argsort(order))
        sizes = [len(each.batch.examples) for each in seen]
        parts = zip(seen, found.split(sizes), strict=True)
        return _Whole(self, {_name(each.batch): (each, part) for each, part in parts})

    def vectors(self, network: Network, batch: MicroBatch) -> torch.Tensor:
        """Return the vector of each text, (texts, width), fp32 with its gradient."""
        states = network.hidden_states(batch).float()
        if self.ranking.pooling == "cls":
            first = (batch.positions == 0).nonzero().squeeze(1)
            pooled = states[first.to(states.device)].cpu()
        else:
            lengths = torch.tensor(batch.lengths)[:, None]
            sums = states.new_zeros(len(lengths), states.shape[1])
            pooled = sums.index_add(0, batch.texts.to(states.device), states).cpu() / lengths
        return functional.normalize(pooled, dim=-1) if self.ranking.normalized else pooled

    def _look(self, network: Network, batch: MicroBatch, *, learning: bool) -> _Seen:
        random = network.place.random_state()
        with torch.set_grad_enabled(learning):
            return _Seen(batch, self.vectors(network, batch), random)

    def _contest(self, vectors: torch.Tensor, numbers: torch.Tensor) -> _Measurements:
        """Measure queries against each other's passages, or each against its own alone.

        `vectors` are (queries, 1 + passages, width), those of a query before those of
        its passages; `numbers` tell which texts are the same, (queries, 1 + passages).
        """
        with torch.enable_grad():
            leaf = vectors.detach().requires_grad_()
            queries, passages = leaf[:, 0], leaf[:, 1:]
            count, group = passages.shape[:2]
            answers = torch.zeros(count, dtype=torch.int64)
            candidates = numbers[:, 1:]
            if self.ranking.in_batch_negatives:
                scores = queries @ passages.flatten(0, 1).T
                answers = torch.arange(count) * group
                candidates = candidates.reshape(1, -1).expand(count, -1)
            else:
                scores = (passages @ queries[:, :, None]).squeeze(-1)
            scores = scores / self.ranking.temperature
            found = losses(scores, answers=answers, numbers=candidates)
            (gradient,) = torch.autograd.grad(found.sum(), leaf)
        places = ranks(scores, answers=answers, numbers=candidates)
        return _Measurements(found.detach(), places, gradient)


@dataclass(frozen=True)
class _Seen:
    """A micro-batch that went through the model."""

    batch: MicroBatch
    vectors: torch.Tensor
    """Vectors of the texts, (texts, width), with their graph where there is no other."""
    random: list[torch.Tensor]
    """State of the generators before it, so that dropout can be repeated."""

    def without_graph(self) -> _Seen:
        return replace(self, vectors=self.vectors.detach())


@dataclass(frozen=True)
class _Measurements:
    """What was found of some queries."""

    losses: torch.Tensor
    """Loss of each, in nats, (queries,)."""
    ranks: torch.Tensor
    """Rank of each one's answer, from 1, (queries,)."""
    gradient: torch.Tensor
    """Gradient of all losses with respect to the vectors, (queries, 1 + passages, width)."""

    @classmethod
    def joined(cls, parts: Sequence[_Measurements]) -> _Measurements:
        columns = zip(*(each.columns for each in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    @property
    def columns(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.losses, self.ranks, self.gradient

    def take(self, chosen: torch.Tensor) -> _Measurements:
        return _Measurements(*(column[chosen] for column in self.columns))

    def split(self, sizes: list[int]) -> list[_Measurements]:
        parts = zip(*(torch.split(column, sizes) for column in self.columns), strict=True)
        return [_Measurements(*part) for part in parts]


@dataclass(frozen=True)
class _Whole:
    """The objective of one whole batch, whose queries are measured already."""

    of: Embedding
    known: dict[int, tuple[_Seen, _Measurements]]
    """How each micro-batch went through, and what was found, by its name."""

    def count(self, batch: MicroBatch) -> int:
        return len(batch.examples)

    def measure(self, network: Network, batch: MicroBatch) -> Measured:
        """Return the sums over the queries of `batch`; their gradient is that of the whole batch's.

        Where no gradient is wanted, nothing goes through the model again.
        """
        seen, found = self.known[_name(batch)]
        loss = found.losses.sum()
        if torch.is_grad_enabled():
            vectors = seen.vectors
            if not vectors.requires_grad:
                network.place.set_random_state(seen.random)
                vectors = self.of.vectors(network, batch)
            carried = (vectors * found.gradient.flatten(0, 1)).sum()
            # The value is the loss; the gradient is that of all losses, through these vectors.
            loss = loss + (carried - carried.detach())
        return Measured(
            loss=loss,
            correct=int((found.ranks == 1).sum()),
            each=each_query(found.losses, found.ranks),
            further={"mrr": float((1 / found.ranks).sum())},
        )


def _name(batch: MicroBatch) -> int:
    """Return the position of its first example, which no other micro-batch has."""
    return int(batch.examples[0])

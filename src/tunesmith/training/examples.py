"""Keeps the encoded examples compactly, and says which of them each step learns from."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.training.pool import Pool

Indices = npt.NDArray[np.int64]
"""Positions of examples."""

MICRO_BATCH_TOKENS = 1024
"""Most tokens, padding counted, that go through the model at once; a longer example goes alone."""

_HOLD_OUT, _ORDER, _STEP, _DRAW = range(4)
"""What a random stream is for, so that no two purposes share one."""


@dataclass(frozen=True)
class Examples:
    """Encoded examples, one behind the other in shared arrays; those of tokens lie on the disk.

    Each has the same number of texts: one, or of a pair two, the chosen before the rejected.
    Of a query with passages they are a draw from all of its texts.
    """

    tokens: npt.NDArray[np.int32]
    """Token ids of all texts."""
    learn: npt.NDArray[np.bool_]
    """Whether the loss is taken on the token, in step with `tokens`."""
    starts: Indices
    """Where each text begins in `tokens`, (examples, texts)."""
    ends: Indices
    """Where each text ends in `tokens`, exclusive, (examples, texts)."""
    cut: npt.NDArray[np.bool_]
    """Whether something of each text lay beyond the longest length, (examples, texts)."""
    lines: Indices
    """Line of each example in its file, from 1, ascending."""
    elements: Indices
    """Number of each example in the file's array, from 1; 0 where the file is no array."""
    reference: npt.NDArray[np.float64] | None = None
    """Log-probability of each text before the first step, (examples, texts), where it is known."""
    segments: npt.NDArray[np.int8] | None = None
    """For each token, 0 in a text's first part, 1 in its second; `None` where there are none."""
    pool: Pool | None = None
    """All texts of each example, where a step draws some of them."""

    @classmethod
    def of_pool(
        cls,
        pool: Pool,
        *,
        tokens: npt.NDArray[np.int32],
        segments: npt.NDArray[np.int8] | None,
        lines: Indices,
        elements: Indices,
    ) -> Examples:
        """Return the first texts of each example of `pool`; no token of them is learnt."""
        texts = pool.drawn(None)
        return cls(
            tokens=tokens,
            learn=np.broadcast_to(np.False_, len(tokens)),
            starts=pool.starts[texts],
            ends=pool.ends[texts],
            cut=pool.cut[texts],
            lines=lines,
            elements=elements,
            segments=segments,
            pool=pool,
        )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.starts)

    def take(self, chosen: Indices) -> Examples:
        """Return the `chosen` examples, sharing the tokens."""
        return replace(
            self,
            starts=self.starts[chosen],
            ends=self.ends[chosen],
            cut=self.cut[chosen],
            lines=self.lines[chosen],
            elements=self.elements[chosen],
            reference=None if self.reference is None else self.reference[chosen],
            pool=None if self.pool is None else self.pool.take(chosen),
        )

    def drawn(self, step: int, *, seed: int) -> Examples:
        """Return the examples with the texts that the optimizer step `step` (from 1) draws.

        It is a function of the seed, the step and the examples alone.
        """
        if self.pool is None:
            return self
        texts = self.pool.drawn(_random(seed, _DRAW, step))
        pool = self.pool
        return replace(self, starts=pool.starts[texts], ends=pool.ends[texts], cut=pool.cut[texts])

    def flat(self) -> Examples:
        """Return all texts of all examples, each as an example of its own."""
        if self.pool is None:
            raise ValueError("These examples draw from no pool.")
        texts, sizes = self.pool.all()[:, None], self.pool.sizes
        return replace(
            self,
            starts=self.pool.starts[texts],
            ends=self.pool.ends[texts],
            cut=self.pool.cut[texts],
            lines=np.repeat(self.lines, sizes),
            elements=np.repeat(self.elements, sizes),
            pool=None,
        )

    def places(self, chosen: Indices) -> str:
        """Name where the `chosen` examples stand in their file, in its order, for messages."""
        pairs = zip(self.elements[chosen].tolist(), self.lines[chosen].tolist(), strict=True)
        ordered = sorted(set(pairs))
        if any(element for element, _ in ordered):
            return "examples " + ", ".join(f"{number} (line {line})" for number, line in ordered)
        return "lines " + ", ".join(str(line) for _, line in ordered)

    @property
    def all(self) -> Indices:
        """Positions of all examples."""
        return np.arange(len(self))

    @property
    def lengths(self) -> Indices:
        """Tokens of each example's longest text."""
        longest: Indices = (self.ends - self.starts).max(axis=1)
        return longest

    @property
    def rows(self) -> Indices:
        """For each example, the number of the row that it comes from, from 0."""
        numbers = np.stack([self.lines, self.elements])
        begins = (np.diff(numbers, axis=1, prepend=-1) != 0).any(axis=0)
        return np.cumsum(begins) - 1


@dataclass(frozen=True)
class MicroBatch:
    """Texts that go through the model together, one behind the other; none sees another."""

    examples: Indices
    """Positions of the examples; the texts of each stand one behind the other."""
    input_ids: torch.Tensor
    """Token ids of all texts, (tokens,), int64."""
    positions: torch.Tensor
    """Place of each token in its text, from 0, (tokens,), int64."""
    texts: torch.Tensor
    """Number of the text that each token is of, from 0, (tokens,), int64."""
    lengths: tuple[int, ...]
    """Tokens of each text."""
    learn: torch.Tensor
    """Whether the loss is taken on the token, (tokens,), bool; never on a text's first."""
    reference: torch.Tensor | None
    """Log-probability of each text before the first step, (texts,), fp64, where it is known."""
    segments: torch.Tensor | None = None
    """0 in a text's first part, 1 in its second, (tokens,), int64, where there are two."""

    @property
    def learnt_tokens(self) -> int:
        """Tokens that the loss is taken on."""
        return int(self.learn.sum())

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return len(self.input_ids)


def hold_out(examples: Examples, *, percent: float, seed: int) -> tuple[Examples, Examples]:
    """Split off a random `percent` of the rows of `examples`: what is learnt, what is held out.

    At least one is held out where `percent` is above 0, and at least one is learnt.
    A row of which several examples were made goes to one side as a whole.
    """
    rows = examples.rows
    count = int(rows[-1]) + 1 if len(examples) else 0
    if percent == 0 or count < 2:
        return examples, examples.take(np.empty(0, dtype=np.int64))
    share = min(max(round(count * percent / 100), 1), count - 1)
    held = np.zeros(count, dtype=np.bool_)
    held[_random(seed, _HOLD_OUT).permutation(count)[:share]] = True
    return examples.take(np.flatnonzero(~held[rows])), examples.take(np.flatnonzero(held[rows]))


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return how many batches `count` examples make; the last may be smaller."""
    return -(-count // batch_size)


def batch_of_step(step: int, *, count: int, batch_size: int, seed: int) -> Indices:
    """Return which of `count` examples the optimizer step `step` (from 1) learns from.

    Each epoch has an order of its own. It is a function of the seed alone, so
    that a resumed run goes on with the very batch at which the other ended.
    """
    epoch, batch = divmod(step - 1, steps_per_epoch(count, batch_size))
    return _order(seed, epoch, count=count)[batch * batch_size : (batch + 1) * batch_size]


def learnt_by(steps: int, *, count: int, batch_size: int, seed: int) -> Indices:
    """Return which of `count` examples a run of `steps` optimizer steps learns from, ascending."""
    first = range(1, min(steps, steps_per_epoch(count, batch_size)) + 1)
    batches = [batch_of_step(s, count=count, batch_size=batch_size, seed=seed) for s in first]
    return np.sort(np.concatenate(batches))


def seed_of_step(step: int, *, seed: int, rank: int = 0) -> int:
    """Return the seed of dropout in `step`, so that no generator's state need be saved."""
    purpose = (_STEP, step, rank) if rank else (_STEP, step)
    return int(_random(seed, *purpose).integers(2**63))


def micro_batches(
    examples: Examples, chosen: Indices, *, most: int | None = None, padding: int | None = 1
) -> Iterator[MicroBatch]:
    """Cut the `chosen` examples into micro-batches of like lengths, longest first.

    None has more than `most` tokens (`None` means `MICRO_BATCH_TOKENS`), nor more than `padding`
    times as many places where its texts are padded to the longest, unless one example has; where
    `padding` is `None`, places do not count.

    The longest come first so that a lack of memory shows at once. The texts of an
    example stay together.
    """
    most = most or MICRO_BATCH_TOKENS
    by_length = chosen[np.argsort(-examples.lengths[chosen], kind="stable")]
    texts = examples.starts.shape[1]
    tokens = (examples.ends - examples.starts)[by_length].sum(axis=1).cumsum()
    gone, before = 0, 0
    while gone < len(by_length):
        longest = int(examples.lengths[by_length[gone]])
        count = int(np.searchsorted(tokens, before + most, side="right")) - gone
        if padding is not None:
            count = min(count, padding * most // (longest * texts))
        count = max(count, 1)
        yield _joined(examples, by_length[gone : gone + count])
        gone += count
        before = int(tokens[min(gone, len(tokens)) - 1])


def micro_batch_of(texts: Sequence[torch.Tensor]) -> MicroBatch:
    """Return `texts`, the token ids of each, (tokens,), int64, as a micro-batch; all is learnt."""
    ends = np.cumsum([len(text) for text in texts])
    starts = ends - [len(text) for text in texts]
    learn = np.ones(int(ends[-1]), dtype=np.bool_)
    learn[starts] = False
    tokens = torch.cat(list(texts)).numpy().astype(np.int32)
    places = np.arange(len(texts))
    return _joined(
        Examples(
            tokens=tokens,
            learn=learn,
            starts=starts[:, None],
            ends=ends[:, None],
            cut=np.zeros((len(texts), 1), dtype=np.bool_),
            lines=places + 1,
            elements=np.zeros_like(places),
        ),
        places,
    )


def _joined(examples: Examples, chosen: Indices) -> MicroBatch:
    starts, ends = examples.starts[chosen].ravel(), examples.ends[chosen].ravel()
    lengths = ends - starts
    texts = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.arange(len(texts)) - (np.cumsum(lengths) - lengths)[texts]
    places = starts[texts] + positions
    known = examples.reference
    return MicroBatch(
        examples=chosen,
        input_ids=torch.from_numpy(examples.tokens[places].astype(np.int64)),
        positions=torch.from_numpy(positions),
        texts=torch.from_numpy(texts),
        lengths=tuple(lengths.tolist()),
        learn=torch.from_numpy(examples.learn[places]),
        reference=None if known is None else torch.from_numpy(known[chosen].ravel()),
        segments=_tensor(examples.segments, places),
    )


def _tensor(values: npt.NDArray[np.int8] | None, places: Indices) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values[places].astype(np.int64))


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, *, count: int) -> Indices:
    return _random(seed, _ORDER, epoch).permutation(count)


def _random(seed: int, *purpose: int) -> np.random.Generator:
    # numpy takes no negative seeds; the sign is kept as one more number.
    return np.random.default_rng([abs(seed), int(seed < 0), *purpose])

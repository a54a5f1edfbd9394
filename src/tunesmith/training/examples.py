"""Keeps the encoded examples compactly, and says which of them each step learns from."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from tunesmith.dataset.check import read_examples
from tunesmith.dataset.rendering import Encoded, SetAside, encode
from tunesmith.domain.values import Value

Indices = npt.NDArray[np.int64]
"""Positions of examples."""

MICRO_BATCH_TOKENS = 1024
"""Most tokens, padding counted, that go through the model at once; a longer example goes alone."""

_HOLD_OUT, _ORDER, _STEP = range(3)
"""What a random stream is for, so that no two purposes share one."""


class FileReport(Value):
    """What became of a data file."""

    examples: int
    """Examples that can be used."""
    tokens: int
    """Their tokens."""
    learnt_tokens: int
    """Those of their tokens that the loss is taken on."""
    cut: int
    """Examples that were cut to the greatest length."""
    set_aside: tuple[SetAside, ...]
    """Examples that are not used."""


@dataclass(frozen=True)
class Examples:
    """Encoded examples, one behind the other in shared arrays."""

    tokens: npt.NDArray[np.int32]
    """Token ids of all examples."""
    learn: npt.NDArray[np.bool_]
    """Whether the loss is taken on the token, in step with `tokens`."""
    starts: Indices
    """Where each example begins in `tokens`."""
    ends: Indices
    """Where each example ends in `tokens`, exclusive."""
    lines: Indices
    """Line of each example in its file, from 1."""
    elements: Indices
    """Number of each example in the file's array, from 1; 0 where the file is no array."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.starts)

    def take(self, chosen: Indices) -> Examples:
        """Return the `chosen` examples, sharing the arrays."""
        return replace(
            self,
            starts=self.starts[chosen],
            ends=self.ends[chosen],
            lines=self.lines[chosen],
            elements=self.elements[chosen],
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
        """Tokens of each example."""
        return self.ends - self.starts


@dataclass(frozen=True)
class MicroBatch:
    """Examples that go through the model together, padded on the right."""

    input_ids: torch.Tensor
    """Token ids, (rows, length), int64; 0 where padded."""
    attention_mask: torch.Tensor
    """1 at tokens, 0 at padding, (rows, length), int64."""
    learn: torch.Tensor
    """Whether the loss is taken on the token, (rows, length), bool; never at padding."""

    @property
    def learnt_tokens(self) -> int:
        """Tokens that the loss is taken on; the first of a row is predicted by nothing."""
        return int(self.learn[:, 1:].sum())

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return int(self.attention_mask.sum())


def read_file(
    file: BinaryIO, tokenizer: PreTrainedTokenizerBase, *, max_length: int, limit: int | None
) -> tuple[Examples, FileReport]:
    """Encode the examples of `file`, the first `limit` of them, reading it as a stream."""
    set_aside: list[SetAside] = []

    def usable() -> Iterator[Encoded]:
        for example in read_examples(file, limit=limit):
            encoded = encode(example, tokenizer, max_length=max_length)
            if isinstance(encoded, SetAside):
                set_aside.append(encoded)
            else:
                yield from encoded

    examples, cut = _gather(usable())
    report = FileReport(
        examples=len(examples),
        tokens=len(examples.tokens),
        learnt_tokens=int(examples.learn.sum()),
        cut=cut,
        set_aside=tuple(set_aside),
    )
    return examples, report


def _gather(usable: Iterable[Encoded]) -> tuple[Examples, int]:
    tokens, learn, ends = array("i"), array("b"), array("q", [0])
    lines, elements = array("q"), array("q")
    cut = 0
    for encoded in usable:
        tokens.extend(encoded.tokens)
        learn.extend(encoded.learn)
        ends.append(len(tokens))
        lines.append(encoded.line)
        elements.append(encoded.element)
        cut += encoded.cut
    bounds = np.asarray(ends, dtype=np.int64)
    learnt = np.asarray(learn, dtype=np.bool_)
    # Nothing stands before an example's first token to predict it from.
    learnt[bounds[:-1]] = False
    return Examples(
        tokens=np.asarray(tokens, dtype=np.int32),
        learn=learnt,
        starts=bounds[:-1],
        ends=bounds[1:],
        lines=np.asarray(lines, dtype=np.int64),
        elements=np.asarray(elements, dtype=np.int64),
    ), cut


def hold_out(examples: Examples, *, percent: float, seed: int) -> tuple[Examples, Examples]:
    """Split off a random `percent` of `examples`: what is learnt, what is held out.

    At least one is held out where `percent` is above 0, and at least one is learnt.
    """
    if percent == 0 or len(examples) < 2:
        return examples, examples.take(np.empty(0, dtype=np.int64))
    count = min(max(round(len(examples) * percent / 100), 1), len(examples) - 1)
    shuffled = _random(seed, _HOLD_OUT).permutation(len(examples))
    return examples.take(np.sort(shuffled[count:])), examples.take(np.sort(shuffled[:count]))


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


def seed_of_step(step: int, *, seed: int) -> int:
    """Return the seed of dropout in `step`, so that no generator's state need be saved."""
    return int(_random(seed, _STEP, step).integers(2**63))


def micro_batches(examples: Examples, chosen: Indices) -> Iterator[MicroBatch]:
    """Cut the `chosen` examples into micro-batches of like lengths, longest first.

    The longest come first so that a lack of memory shows at once.
    """
    by_length = chosen[np.argsort(-examples.lengths[chosen], kind="stable")]
    while len(by_length):
        longest = int(examples.lengths[by_length[0]])
        rows = max(MICRO_BATCH_TOKENS // longest, 1)
        yield _pad(examples, by_length[:rows])
        by_length = by_length[rows:]


def _pad(examples: Examples, rows: Indices) -> MicroBatch:
    shape = (len(rows), int(examples.lengths[rows].max()))
    input_ids = np.zeros(shape, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    learn = np.zeros(shape, dtype=np.bool_)
    for row, example in enumerate(rows):
        span = slice(int(examples.starts[example]), int(examples.ends[example]))
        length = span.stop - span.start
        input_ids[row, :length] = examples.tokens[span]
        attention_mask[row, :length] = 1
        learn[row, :length] = examples.learn[span]
    return MicroBatch(
        torch.from_numpy(input_ids), torch.from_numpy(attention_mask), torch.from_numpy(learn)
    )


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, *, count: int) -> Indices:
    return _random(seed, _ORDER, epoch).permutation(count)


def _random(seed: int, *purpose: int) -> np.random.Generator:
    # numpy takes no negative seeds; the sign is kept as one more number.
    return np.random.default_rng([abs(seed), int(seed < 0), *purpose])

"""Reads a data file into encoded examples, and keeps account of those that cannot be used."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.dataset.examples import AnyExample, Example, Pair, Ranking, Reasoning, Text
from tunesmith.dataset.overlong import Bound, too_long
from tunesmith.dataset.pairing import encode_pair
from tunesmith.dataset.passages import PassageEncoder, RankedText
from tunesmith.dataset.problems import place
from tunesmith.dataset.reading import SetAsideRow, read_examples
from tunesmith.dataset.rendering import Encoded, SetAside, SetAsideRule, encode
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import Method, Policy, TrainSpec
from tunesmith.domain.values import Value
from tunesmith.training.columns import Column
from tunesmith.training.examples import Examples
from tunesmith.training.ranked import gather_ranked

Texts = tuple[Encoded, ...]
"""The texts of one example: of a pair two, the chosen before the rejected; of a query with
passages all, see `PassageEncoder`."""

Encode = Callable[[AnyExample | SetAsideRow], list[Texts] | SetAside]
"""Makes of a row the examples that it is learnt as."""

_PLACES_NAMED = 5
"""How many examples that are too long a refusal names."""


class FileReport(Value):
    """What became of a data file."""

    examples: int
    """Examples that can be used; of a line that is learnt as several texts, each (but a pair's
    two are one)."""
    tokens: int
    """Their tokens."""
    learnt_tokens: int
    """Those of their tokens that the loss is taken on; of queries and passages none, since no
    token is predicted."""
    cut: int
    """Examples that were cut to the greatest length."""
    set_aside: dict[str, int]
    """Examples that are not used, by the rule that says why."""


@dataclass(frozen=True)
class FileContent:
    """A data file as training uses it."""

    examples: Examples
    """What can be used."""
    set_aside: tuple[SetAside, ...]
    """What cannot."""
    report: FileReport
    """The sums of both."""


def read_file(
    file: BinaryIO,
    tokenizer: PreTrainedTokenizerBase,
    *,
    spec: TrainSpec,
    limit: int | None,
    folder: Path,
) -> FileContent:
    """Encode the examples of `file`, the first `limit` of them, reading it as a stream.

    Their tokens are kept on the disk of `folder`, in files without names.

    Raises `InvalidRequestError` at a bad row, and where the policy refuses examples
    that are too long.
    """
    set_aside: list[SetAside] = []
    encode_row = _encoder(tokenizer, spec)

    def usable() -> Iterator[Texts]:
        rows = read_examples(file, method=spec.method, limit=limit, bad_rows=spec.bad_rows)
        for row in rows:
            encoded = encode_row(row)
            if spec.over_length is not Policy.CUT:
                encoded = _none_cut(encoded, spec, windows=isinstance(row, Text))
            if isinstance(encoded, SetAside):
                set_aside.append(encoded)
            else:
                yield from encoded

    if spec.ranking is None:
        examples = _gather(usable(), texts=2 if spec.method is Method.DPO else 1, folder=folder)
        cut = int(examples.cut.any(axis=1).sum())
    else:
        ranked = cast("Iterator[tuple[RankedText, ...]]", usable())
        queries = spec.method is Method.EMBEDDING
        examples = gather_ranked(
            ranked, queries=queries, group_size=spec.ranking.group_size, folder=folder
        )
        flat = examples.flat()
        cut = len(np.unique(flat.rows[flat.cut[:, 0]]))
    if spec.over_length is Policy.REFUSE:
        _refuse_long(set_aside, spec)
    report = FileReport(
        examples=len(examples),
        tokens=len(examples.tokens),
        learnt_tokens=int(examples.learn.sum()),
        cut=cut,
        set_aside=dict(Counter(str(one.rule) for one in set_aside)),
    )
    return FileContent(examples, tuple(set_aside), report)


def _encoder(tokenizer: PreTrainedTokenizerBase, spec: TrainSpec) -> Encode:
    passages = (
        PassageEncoder(tokenizer.backend_tokenizer, spec.ranking, method=spec.method)
        if spec.ranking is not None
        else None
    )

    def encode_row(row: AnyExample | SetAsideRow) -> list[Texts] | SetAside:
        if not isinstance(row, Ranking) or passages is None:
            return _encode(row, tokenizer, spec=spec)
        encoded = passages.encode(row)
        return encoded if isinstance(encoded, SetAside) else [encoded]

    return encode_row


def _encode(
    row: AnyExample | SetAsideRow, tokenizer: PreTrainedTokenizerBase, *, spec: TrainSpec
) -> list[Texts] | SetAside:
    """Return the examples that the row is learnt as, where it is of no query with passages."""
    match row:
        case Example() | Reasoning() | Text():
            encoded = encode(row, tokenizer, max_length=spec.max_length, think=spec.think)
            return encoded if isinstance(encoded, SetAside) else [(text,) for text in encoded]
        case Pair():
            pair = encode_pair(row, tokenizer, max_length=spec.max_length)
            return pair if isinstance(pair, SetAside) else [pair]
        case SetAsideRow():
            reason = row.message
            return SetAside(line=row.line, element=row.element, rule=row.rule, reason=reason)
        case _:
            raise TypeError(f"No method learns from {type(row).__name__} rows.")


def _bound(spec: TrainSpec) -> Bound:
    return Bound.of(spec.method, max_length=spec.max_length, ranking=spec.ranking)


def _none_cut(
    texts: list[Texts] | SetAside, spec: TrainSpec, *, windows: bool
) -> list[Texts] | SetAside:
    """Return `texts`, or in their place that something of them was cut, or all."""
    flat = texts if isinstance(texts, SetAside) else list(chain.from_iterable(texts))
    return too_long(flat, windows=windows, bound=_bound(spec)) or texts


def _refuse_long(set_aside: Sequence[SetAside], spec: TrainSpec) -> None:
    long = [one for one in set_aside if one.rule is SetAsideRule.OVER_LENGTH]
    places = [place(one.line, one.element) for one in long]
    if places:
        named = ", ".join(places[:_PLACES_NAMED])
        more = f" and {len(places) - _PLACES_NAMED} more" if len(places) > _PLACES_NAMED else ""
        bound = _bound(spec)
        raise InvalidRequestError(
            f"More than {bound.words}: {named}{more}. Shorten them, raise {bound.key}, or "
            "let what is too long be cut or set aside (over_length).",
            code=SetAsideRule.OVER_LENGTH,
        )


def _gather(usable: Iterable[Texts], *, texts: int, folder: Path) -> Examples:
    tokens, learn = Column("i", folder=folder), Column("b", folder=folder)
    ends = array("q", [0])
    lines, elements, cut = array("q"), array("q"), array("b")
    for example in usable:
        for text in example:
            tokens.extend(text.tokens)
            # Nothing stands before a text's first token to predict it from.
            learn.extend([False, *text.learn[1:]])
            ends.append(len(tokens))
            cut.append(text.cut)
        lines.append(example[0].line)
        elements.append(example[0].element)
    bounds = np.asarray(ends, dtype=np.int64)
    return Examples(
        tokens=tokens.read(np.int32),
        learn=learn.read(np.bool_),
        starts=bounds[:-1].reshape(-1, texts),
        ends=bounds[1:].reshape(-1, texts),
        cut=np.asarray(cut, dtype=np.bool_).reshape(-1, texts),
        lines=np.asarray(lines, dtype=np.int64),
        elements=np.asarray(elements, dtype=np.int64),
    )

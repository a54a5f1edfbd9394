"""Keeps the encoded texts of queries with their passages as examples that each step draws anew."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tunesmith.dataset.passages import RankedText
from tunesmith.training.columns import Column
from tunesmith.training.examples import Examples
from tunesmith.training.pool import Pool


def gather_ranked(
    rows: Iterable[tuple[RankedText, ...]], *, queries: bool, group_size: int, folder: Path
) -> Examples:
    """Return `rows` as examples whose texts are, until a step draws, the first ones of each.

    `queries` says whether each row begins with its query. Where no row has a passage
    that does not answer, a draw has no place for any. Their tokens are kept on the disk of
    `folder`.
    """
    tokens, segments = Column("i", folder=folder), Column("b", folder=folder)
    ends, cut = array("q", [0]), array("b")
    lines, elements, first = array("q"), array("q"), array("q")
    positives, negatives = array("q"), array("q")
    for row in rows:
        first.append(len(cut))
        lines.append(row[0].line)
        elements.append(row[0].element)
        positives.append(sum(text.side == "positive" for text in row))
        negatives.append(sum(text.side == "negative" for text in row))
        for text in row:
            tokens.extend(text.tokens)
            segments.extend(text.segments)
            ends.append(len(tokens))
            cut.append(text.cut)
    bounds = np.asarray(ends, dtype=np.int64)
    pool = Pool(
        starts=bounds[:-1],
        ends=bounds[1:],
        cut=np.asarray(cut, dtype=np.bool_),
        first=np.asarray(first, dtype=np.int64),
        positives=np.asarray(positives, dtype=np.int64),
        negatives=np.asarray(negatives, dtype=np.int64),
        lead=int(queries),
        group=group_size if any(negatives) else 1,
    )
    found = segments.read(np.int8)
    return Examples.of_pool(
        pool,
        tokens=tokens.read(np.int32),
        segments=found if found.any() else None,
        lines=np.asarray(lines, dtype=np.int64),
        elements=np.asarray(elements, dtype=np.int64),
    )

"""Writes the receipt of each line before training begins: `receipt.parquet`, `receipt.jsonl`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from pyarrow import parquet
from transformers import PreTrainedTokenizerBase

from tunesmith.artifacts.receipts import ROWS_PER_GROUP, SCHEMA, TOKEN_COLUMNS
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.dataset.rendering import SetAside
from tunesmith.training.examples import Examples, Indices

_CHUNK = 2**20
"""Bytes that are copied at once, or tokens that are looked at."""

_SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class FileLines:
    """What became of the lines of one file."""

    file: str
    """`training` or `validation`."""
    train: Examples | None
    """What of it is learnt from."""
    held_out: Examples | None
    """What of it the run is evaluated on."""
    set_aside: Sequence[SetAside]
    """What of it is not used."""


def write_lines(
    run: RunDirectory, tokenizer: PreTrainedTokenizerBase, *, files: Sequence[FileLines]
) -> None:
    """Keep the receipt of each line of `files` in the run directory, a few hundred at a time.

    The same files and tokenizer give the same bytes.
    """
    with run.scratch() as aside:
        table, lines = aside / "receipt.parquet", aside / "receipt.jsonl"
        with parquet.ParquetWriter(table, SCHEMA) as writer, lines.open("wb") as text:
            for file in files:
                for batch in _batches(file, tokenizer):
                    writer.write_batch(batch, row_group_size=ROWS_PER_GROUP)
                    text.writelines(_json_lines(batch))
        run.write_receipt_lines(_chunks(lines), table=_chunks(table))


def _json_lines(batch: Any) -> Iterator[bytes]:
    for row in batch.drop_columns(list(TOKEN_COLUMNS)).to_pylist():
        yield orjson.dumps(row) + b"\n"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


@dataclass(frozen=True)
class _Source:
    """Examples of one split, and where in their texts a row finds its own."""

    split: str
    examples: Examples
    sides: Sequence[str | None]
    """What each text is, example by example; see `LineReceipt.side`."""
    numbers: Indices
    """Which of its line's texts each text is, from 1, (examples, texts)."""

    @classmethod
    def of(cls, split: str, drawn: Examples) -> _Source:
        """Take the texts of `drawn`, or all that they draw from."""
        examples = drawn if drawn.pool is None else drawn.flat()
        count, texts = examples.starts.shape
        sides: Sequence[str | None] = _SIDES * count if texts == len(_SIDES) else [None] * count
        if drawn.pool is not None:
            sides = drawn.pool.sides()
        return cls(split, examples, sides, _numbers(examples))


def _batches(file: FileLines, tokenizer: PreTrainedTokenizerBase) -> Iterator[Any]:
    splits = (("train", file.train), ("held_out", file.held_out))
    sources = [_Source.of(split, part) for split, part in splits if part is not None]
    spell = _speller(tokenizer, [source.examples for source in sources])
    ends = np.array(sorted({*tokenizer.all_special_ids}), dtype=np.int32)
    places = _in_order(sources, file.set_aside)
    for start in range(0, len(places), ROWS_PER_GROUP):
        rows = [
            _unused(file, file.set_aside[at])
            if source == len(sources)
            else _text(file, sources[source], at=at, ends=ends)
            for source, at in places[start : start + ROWS_PER_GROUP].tolist()
        ]
        yield _batch(rows, spell)


def _numbers(examples: Examples) -> Indices:
    rows, (count, texts) = examples.rows, examples.starts.shape
    before = np.arange(count) - np.searchsorted(rows, rows)
    numbers: Indices = before[:, None] * texts + np.arange(texts) + 1
    return numbers


def _in_order(sources: Sequence[_Source], set_aside: Sequence[SetAside]) -> Indices:
    """Return (source, position in it) of each row, by line, element and text, (rows, 2).

    The source behind the last is what was set aside.
    """
    parts = []
    for number, source in enumerate(sources):
        texts = source.numbers.shape[1]
        lines = np.repeat(source.examples.lines, texts)
        elements = np.repeat(source.examples.elements, texts)
        parts.append((lines, elements, source.numbers.ravel(), np.full(len(lines), number)))
    parts.append(
        (
            np.array([one.line for one in set_aside], dtype=np.int64),
            np.array([one.element for one in set_aside], dtype=np.int64),
            np.zeros(len(set_aside), dtype=np.int64),
            np.full(len(set_aside), len(sources)),
        )
    )
    lines, elements, texts, origin = (np.concatenate(column) for column in zip(*parts, strict=True))
    at = np.concatenate([np.arange(len(part[0])) for part in parts])
    order = np.lexsort((texts, elements, lines))
    return np.stack([origin[order], at[order]], axis=1)


def _text(file: FileLines, source: _Source, *, at: int, ends: Any) -> dict[str, Any]:
    examples = source.examples
    example, side = divmod(at, examples.starts.shape[1])
    span = slice(int(examples.starts[example, side]), int(examples.ends[example, side]))
    tokens, learn = examples.tokens[span], examples.learn[span]
    return {
        "file": file.file,
        "line": int(examples.lines[example]),
        "element": int(examples.elements[example]),
        "text": int(source.numbers[example, side]),
        "side": source.sides[at],
        "split": source.split,
        "tokens": len(tokens),
        "tokens_learnt": int(learn.sum()),
        "cut": bool(examples.cut[example, side]),
        "end_learnt": bool(learn.any() and tokens[learn][-1] in ends),
        "token_ids": tokens,
        "learnt": learn,
    }


def _unused(file: FileLines, one: SetAside) -> dict[str, Any]:
    return {
        "file": file.file,
        "line": one.line,
        "element": one.element,
        "text": 0,
        "rule": str(one.rule),
        "reason": one.reason,
    }


def _batch(rows: Sequence[dict[str, Any]], spell: Callable[[Any], Any]) -> Any:
    plain = [name for name in SCHEMA.names if name not in TOKEN_COLUMNS]
    columns = {
        name: pa.array([row.get(name) for row in rows], SCHEMA.field(name).type) for name in plain
    }
    none = np.empty(0, dtype=np.int32)
    ids = [row.get("token_ids", none) for row in rows]
    values = pa.array(np.concatenate(ids))
    offsets = pa.array(np.concatenate([[0], np.cumsum([len(one) for one in ids])]).astype(np.int32))
    absent = pa.array(["token_ids" not in row for row in rows])
    learnt = np.concatenate([row.get("learnt", none.astype(np.bool_)) for row in rows])
    for name, content in zip(TOKEN_COLUMNS, (values, spell(values), pa.array(learnt)), strict=True):
        columns[name] = pa.ListArray.from_arrays(offsets, content, mask=absent)
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _speller(tokenizer: PreTrainedTokenizerBase, parts: Sequence[Examples]) -> Callable[[Any], Any]:
    """Return what turns an array of token ids into one of their pieces.

    Some decoders drop the blank before a text's first token, so each piece is
    what a token adds behind another one.
    """
    used = np.zeros(len(tokenizer) + 1, dtype=np.bool_)
    for part in parts:
        for start in range(0, len(part.tokens), _CHUNK):
            used[part.tokens[start : start + _CHUNK]] = True
    ids = np.flatnonzero(used)
    first = tokenizer.encode(".", add_special_tokens=False)
    before = len(tokenizer.decode(first, clean_up_tokenization_spaces=False))
    texts = tokenizer.batch_decode(
        [[*first, id] for id in ids.tolist()], clean_up_tokenization_spaces=False
    )
    pieces = pa.array([text[before:] for text in texts], pa.string())
    places = np.cumsum(used) - 1
    return lambda values: pieces.take(pa.array(places[values.to_numpy()]))

"""Shows one row of a file as a model would see it: its tokens, and which of them are learnt."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from io import BufferedReader, BytesIO, RawIOBase
from typing import BinaryIO, cast

from tunesmith.dataset.blocks import is_json_lines
from tunesmith.dataset.containers import read_rows
from tunesmith.dataset.examples import AnyExample, Example, Pair, Ranking, Reasoning, Text
from tunesmith.dataset.formats import Parser
from tunesmith.dataset.overlong import Bound, too_long
from tunesmith.dataset.pairing import encode_pair
from tunesmith.dataset.passages import (
    PassageEncoder,
    RankedText,
    ranked_method,
    within_context,
)
from tunesmith.dataset.problems import Problem
from tunesmith.dataset.rendering import Encoded, SetAside, encode, ensure_template
from tunesmith.dataset.rows import MAX_ROW_SIZE, Row, read_lines
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.shown_rows import AskedRow, ShownRow, ShownText
from tunesmith.domain.spec import Method, Policy
from tunesmith.domain.validation import ValidationOptions

_HEAD = 2**12
"""Bytes from which the container is told."""


def show_row(
    file: BinaryIO, options: ValidationOptions, *, tokenizer: FolderTokenizer, asked: AskedRow
) -> ShownRow | None:
    """Return the row `asked` for as a job with `options` would see it; `None` if there is none.

    `file` is at its beginning, and read as far as that row. Nothing is raised for bad content:
    a row that breaks a rule is shown with the rule and no text.
    """
    row = _find(file, asked)
    if row is None:
        return None
    if isinstance(row, Row):
        found = Parser(options.method).parse(row)
        if not isinstance(found, tuple):
            return _shown(found, options, tokenizer=tokenizer)
        row = found[0]
    return ShownRow(line=row.line, element=row.element, rule=str(row.rule), reason=row.message)


def _find(file: BinaryIO, asked: AskedRow) -> Row | Problem | None:
    """Return the row, or what is wrong with it or keeps the file from being read so far."""
    buffered = BufferedReader(cast("RawIOBase", file), 2**20)
    try:
        rows = (
            _line_of(buffered, asked.line)
            if is_json_lines(buffered.peek(_HEAD))
            else read_rows(cast("BinaryIO", buffered))
        )
        for row in rows:
            if isinstance(row, Problem) and row.last:
                return row
            if row.line > asked.line:
                return None
            if row.line == asked.line and asked.element in (None, row.element):
                return row
    finally:
        # Else the file, which is the caller's, would be closed with it.
        buffered.detach()
    return None


def _line_of(file: BufferedReader[RawIOBase], line: int) -> Iterator[Row | Problem]:
    """Yield the row on `line` of JSON Lines; those before it are passed over unread."""
    number = 1
    while number < line:
        piece = file.readline(MAX_ROW_SIZE)
        if not piece:
            return
        number += piece.endswith(b"\n")
    found = file.readline(MAX_ROW_SIZE + 1)
    found = found.removeprefix(codecs.BOM_UTF8) if line == 1 else found
    yield from read_lines(BytesIO(found), number=line)


def _shown(
    example: AnyExample, options: ValidationOptions, *, tokenizer: FolderTokenizer
) -> ShownRow:
    method = _method(example, options, tokenizer=tokenizer)
    seen = ShownRow(line=example.line, element=example.element, method=method)
    encoded = _encoded(example, options, tokenizer=tokenizer)
    if isinstance(encoded, SetAside):
        return seen.model_copy(update={"rule": str(encoded.rule), "reason": encoded.reason})
    sides = ("chosen", "rejected") if isinstance(example, Pair) else (None,) * len(encoded)
    texts = tuple(
        _text(text, tokenizer, side=text.side if isinstance(text, RankedText) else side)
        for text, side in zip(encoded, sides, strict=True)
    )
    return seen.model_copy(update={"texts": texts})


def _method(
    example: AnyExample, options: ValidationOptions, *, tokenizer: FolderTokenizer
) -> Method:
    """Return the method that `example` is seen by."""
    match example:
        case Ranking():
            return ranked_method(options.method, of_reranker=tokenizer.of_reranker)
        case Pair():
            return Method.DPO
        case Reasoning():
            return Method.REASONING
        case Text():
            return Method.PRETRAINING
        case Example():
            return Method.SUPERVISED


def _encoded(
    example: AnyExample, options: ValidationOptions, *, tokenizer: FolderTokenizer
) -> Sequence[Encoded] | SetAside:
    """Return the texts that `example` is learnt as, as training encodes them."""
    context = tokenizer.context_length
    max_length = min(options.max_length, context or options.max_length)
    method, ranking = _method(example, options, tokenizer=tokenizer), None
    encoded: Sequence[Encoded] | SetAside
    match example:
        case Ranking():
            ranking = within_context(options.ranking, method=method, context=context)
            encoded = PassageEncoder(tokenizer.backend, ranking, method=method).encode(example)
        case Pair():
            ensure_template(tokenizer)
            encoded = encode_pair(example, tokenizer, max_length=max_length)
        case Example() | Reasoning() | Text():
            ensure_template(tokenizer)
            encoded = encode(example, tokenizer, max_length=max_length, think=options.think)
    if options.over_length is Policy.CUT:
        return encoded
    bound = Bound.of(method, max_length=max_length, ranking=ranking)
    return too_long(encoded, windows=isinstance(example, Text), bound=bound) or encoded


def _text(text: Encoded, tokenizer: FolderTokenizer, *, side: str | None) -> ShownText:
    ids = tuple(text.tokens)
    # Nothing stands before a text's first token to predict it from.
    learnt = (False, *map(bool, text.learn[1:]))[: len(ids)]
    ends = set(map(tokenizer.backend.token_to_id, tokenizer.all_special_tokens))
    last = next((id for id, each in zip(ids[::-1], learnt[::-1], strict=True) if each), None)
    return ShownText.model_validate(
        {
            "side": side,
            "cut": text.cut,
            "end_learnt": last is not None and last in ends,
            "token_ids": ids,
            "pieces": _pieces(ids, tokenizer),
            "learnt": learnt,
        }
    )


def _pieces(ids: Sequence[int], tokenizer: FolderTokenizer) -> tuple[str, ...]:
    """Return what each token stands for: what it adds behind another one.

    By itself, some decoders would drop the blank before it.
    """
    backend = tokenizer.backend
    first = backend.encode(".", add_special_tokens=False).ids
    before = len(backend.decode(first, skip_special_tokens=False))
    different = sorted(set(ids))
    texts = backend.decode_batch([[*first, id] for id in different], skip_special_tokens=False)
    spelt = {id: text[before:] for id, text in zip(different, texts, strict=True)}
    return tuple(spelt[id] for id in ids)

"""A row of a file as a model would see it: an extension of ours to OpenAI's files."""

from __future__ import annotations

from typing import Literal, Self

from tunesmith.domain.shown_rows import ShownRow, ShownText
from tunesmith.protocol.methods import AnyMethod
from tunesmith.protocol.receipts import ReceiptTextObject, SetAsideObject, TokenObject
from tunesmith.protocol.wire import Wire


class FileRowObject(Wire):
    """A row of a file as a model would see it."""

    object: Literal["file.row"] = "file.row"
    """Tells the kinds of objects apart."""
    file_id: str
    """The file."""
    model: str
    """The model whose tokenizer and chat template were used."""
    line: int
    """Line of the file, from 1."""
    element: int
    """Number of the row in the file's array, from 1; 0 where the file is no array."""
    method: AnyMethod | None
    """The method by which it is seen: the one asked for, or else the one that such rows are for
    (of queries with passages, that of the tuned model or what the base model is made for); null
    where the row was not understood."""
    set_aside: SetAsideObject | None
    """Why it would not be learnt from; null where it would be."""
    texts: list[ReceiptTextObject]
    """What it would be learnt as, as in a job's receipt; `split` is null, since no job chose."""

    @classmethod
    def to_wire(cls, row: ShownRow, *, file_id: str, model: str) -> Self:
        """Return `row` as clients see it."""
        aside = row.rule is not None
        return cls(
            file_id=file_id,
            model=model,
            line=row.line,
            element=row.element,
            method=row.method.value if row.method else None,
            set_aside=SetAsideObject(rule=row.rule, reason=row.reason) if aside else None,
            texts=[_text(text) for text in row.texts],
        )


def _text(text: ShownText) -> ReceiptTextObject:
    return ReceiptTextObject(
        side=text.side,
        split=None,
        cut=text.cut,
        end_learnt=text.end_learnt,
        tokens_learnt=sum(text.learnt),
        tokens=[
            TokenObject(id=each, text=piece, learnt=learnt)
            for each, piece, learnt in zip(text.token_ids, text.pieces, text.learnt, strict=True)
        ],
    )

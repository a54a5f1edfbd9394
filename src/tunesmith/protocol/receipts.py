"""The receipt of a job: what it learns from, line by line and token by token."""

from __future__ import annotations

from typing import Literal

from tunesmith.protocol.wire import Wire


class TokenObject(Wire):
    """One token as the model sees it."""

    id: int
    """Its number in the tokenizer's vocabulary."""
    text: str
    """What it stands for; half a character is shown as U+FFFD."""
    learnt: bool
    """Whether the loss is taken on it."""


class ReceiptTextObject(Wire):
    """One of the texts that a line is learnt as."""

    side: Literal["chosen", "rejected", "query", "positive", "negative"] | None
    """Of a preference pair, the answer; of a query with passages, what the text is; else null."""
    split: Literal["train", "held_out"] | None
    """Whether it is learnt from or evaluated on."""
    cut: bool | None
    """Whether a part of what is to be learnt lay beyond the maximum length."""
    end_learnt: bool | None
    """Whether the last token learnt is one that ends the answer."""
    tokens_learnt: int | None
    """Number of the tokens that the loss is taken on."""
    tokens: list[TokenObject]
    """All tokens, in their order."""


class SetAsideObject(Wire):
    """Why a line is not used."""

    rule: str | None
    """The rule that it breaks, as a stable id."""
    reason: str | None
    """The same in words, with the mend."""


class ReceiptLineObject(Wire):
    """What became of one line of a job's files."""

    object: Literal["fine_tuning.job.receipt.line"] = "fine_tuning.job.receipt.line"
    """Tells the kinds of objects apart."""
    fine_tuning_job_id: str
    """The job."""
    file: Literal["training", "validation"]
    """Which of its files."""
    line: int
    """Line of the file, from 1."""
    element: int
    """Number of the example in the file's array, from 1; 0 where the file is no array."""
    set_aside: SetAsideObject | None
    """Why the line is not used; null where it is."""
    texts: list[ReceiptTextObject]
    """What the line is learnt as; none where it was set aside."""

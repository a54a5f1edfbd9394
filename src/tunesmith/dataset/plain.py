"""The formats whose values are plain texts: alpaca, prompts, texts, reasoning and rankings.

`alpaca` is `{"instruction", "input", "output"}` (Stanford Alpaca, 2023), with
LLaMA-Factory's `system` and `history`. `reasoning` and `ranking` rows are OPEA's.
Further keys are passed over everywhere, since published files carry ids, scores
and rendered texts.
"""

from __future__ import annotations

from tunesmith.dataset.examples import Example, Message, Ranking, Reasoning, Text
from tunesmith.dataset.objects import Object
from tunesmith.dataset.problems import Rule
from tunesmith.dataset.rows import Row
from tunesmith.dataset.sharegpt import system_message


def alpaca(row: Row, fields: Object) -> Example:
    """Return the instruction as the user's message and the output as the answer."""
    # Published files have rows without an answer; such an example is set aside, not refused.
    answer = Message("assistant", fields.string("output"), learn=True)
    return Example(row.line, (*alpaca_prompt(fields), answer), row.element)


def alpaca_prompt(fields: Object) -> tuple[Message, ...]:
    """Return all turns before the answer."""
    instruction = fields.text("instruction")
    given = fields.optional("input")
    if given:
        instruction = f"{instruction}\n\n{given}"
    asked = Message("user", instruction, learn=False)
    return (*system_message(fields), *_history(fields), asked)


def prompt_completion(row: Row, fields: Object) -> Example:
    """Return the prompt as the user's message and the completion as the answer."""
    asked = Message("user", fields.text("prompt"), learn=False)
    answer = Message("assistant", fields.string("completion"), learn=True)
    return Example(row.line, (asked, answer), row.element)


def text(row: Row, fields: Object) -> Text:
    """Return the text as it is."""
    return Text(row.line, fields.string("text"), row.element)


def reasoning(row: Row, fields: Object) -> Reasoning:
    """Return the question, the thought if there is one, and the answer."""
    question = fields.text("Question")
    thought = fields.optional("Complex_CoT")
    return Reasoning(row.line, question, thought, fields.string("Response"), row.element)


def ranking(row: Row, fields: Object) -> Ranking:
    """Return the query with its passages, and the instruction for it if there is one."""
    query = fields.text("query")
    positives = _passages(fields, "pos", found=fields.array("pos"))
    negatives = fields.listed("neg", fields.fields["neg"]) if fields.has("neg") else []
    return Ranking(
        row.line,
        query,
        positives,
        _passages(fields, "neg", found=negatives),
        row.element,
        prompt=fields.optional("prompt"),
    )


def _passages(fields: Object, key: str, *, found: list[object]) -> tuple[str, ...]:
    for at, item in enumerate(found):
        if isinstance(item, str) and not item.strip():
            fields.empty(f"{key}/{at}")
    return tuple(fields.checked(f"{key}/{at}", item) for at, item in enumerate(found))


def _history(fields: Object) -> tuple[Message, ...]:
    history = fields.listed("history", fields.fields["history"]) if fields.has("history") else []
    turns: list[Message] = []
    for at, item in enumerate(history):
        key = f"history/{at}"
        pair = fields.listed(key, item)
        if isinstance(item, list) and len(pair) != 2:
            message = f"'{key}' must be a pair of the user's and the assistant's text."
            fields.fault(Rule.WRONG_VALUE, message, key=key)
        for side, (role, said) in enumerate(zip(("user", "assistant"), pair, strict=False)):
            content = fields.checked(f"{key}/{side}", said)
            turns.append(Message(role, content, learn=False))
    return tuple(turns)

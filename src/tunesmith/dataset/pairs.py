"""The formats of two answers to one prompt, of which one is preferred.

`preference` is OpenAI's. `ranking` is what published files have: `chosen` and
`rejected` beside ShareGPT's `conversations`, beside alpaca's `instruction` or
beside a `prompt`; each answer is a text or a turn of ShareGPT. `opea_dpo` is
OPEA's.
"""

from __future__ import annotations

from dataclasses import replace

from tunesmith.dataset.chat import answer, turns
from tunesmith.dataset.examples import Message, Pair
from tunesmith.dataset.objects import Object
from tunesmith.dataset.plain import alpaca_prompt
from tunesmith.dataset.problems import Rule
from tunesmith.dataset.rows import Row
from tunesmith.dataset.sharegpt import sharegpt_turn, sharegpt_turns, system_message
from tunesmith.dataset.tools import Tools

_OLDER = {
    "preferred_output": "preferred_completion",
    "non_preferred_output": "non_preferred_completion",
}
PREFERRED = frozenset({*_OLDER, *_OLDER.values()})
"""What OpenAI's pairs have besides `input`: the answers, by their newer and older names."""

_PREFERENCE_KEYS = PREFERRED | {"input"}


def preference(row: Row, fields: Object) -> Pair:
    """Return OpenAI's pair: `input` as a chat without its end, and one message for each side."""
    fields.refuse_others(_PREFERENCE_KEYS)
    asked = fields.member("input")
    tools = Tools()
    prompt = turns(asked, tools) if asked else ()
    if asked and prompt and prompt[-1].role == "assistant":
        message = "the input must end before the answer, not with the assistant's message."
        asked.fault(Rule.ROLE_ORDER, message, key=f"messages/{len(prompt) - 1}/role")
    chosen, rejected = (_preferred(fields, key, tools=tools) for key in _OLDER)
    return _pair(row, prompt, answers=(chosen, rejected), tools=tools)


def ranking(row: Row, fields: Object) -> Pair:
    """Return the pair of a conversation, an instruction or a prompt, and two answers."""
    tools = Tools()
    prompt = _prompt(fields, tools)
    chosen, rejected = (_ranked(fields, key, tools=tools) for key in ("chosen", "rejected"))
    return _pair(row, prompt, answers=(chosen, rejected), tools=tools)


def opea_dpo(row: Row, fields: Object) -> Pair:
    """Return OPEA's pair: a question, perhaps behind a system message, and two answers."""
    asked = Message("user", fields.text("question"), learn=False)
    prompt = (*system_message(fields), asked)
    chosen, rejected = (
        Message("assistant", fields.string(key), learn=True) for key in ("chosen", "rejected")
    )
    return _pair(row, prompt, answers=(chosen, rejected), tools=Tools())


def _pair(
    row: Row, prompt: tuple[Message, ...], *, answers: tuple[Message, Message], tools: Tools
) -> Pair:
    unlearnt = tuple(replace(turn, learn=False) if turn.learn else turn for turn in prompt)
    chosen, rejected = (replace(said, learn=True) for said in answers)
    return Pair(row.line, unlearnt, chosen, rejected, row.element, tuple(tools.defined))


def _preferred(fields: Object, key: str, *, tools: Tools) -> Message:
    older = _OLDER[key]
    if fields.has(key) and fields.has(older):
        message = f"'{older}' is the older name of '{key}'. Give one of the two."
        fields.fault(Rule.WRONG_VALUE, message, key=older)
    name = older if fields.has(older) and not fields.has(key) else key
    return answer(fields, name, tools=tools.fork())


def _prompt(fields: Object, tools: Tools) -> tuple[Message, ...]:
    if fields.has("conversations"):
        system = system_message(fields)
        turns = sharegpt_turns(fields, tools, first=not system)
        if turns and turns[-1].role == "assistant":
            message = "the conversation must end before the answer, not with the assistant's turn."
            fields.fault(Rule.ROLE_ORDER, message, key=f"conversations/{len(turns) - 1}/from")
        return (*system, *turns)
    if fields.has("instruction"):
        return alpaca_prompt(fields)
    return (*system_message(fields), Message("user", fields.text("prompt"), learn=False))


def _ranked(fields: Object, key: str, *, tools: Tools) -> Message:
    value = fields.fields.get(key)
    if not isinstance(value, dict):
        return Message("assistant", fields.string(key), learn=True)
    said = sharegpt_turn(fields.inside(key, value), tools.fork(), first=False)
    if said.role not in ("", "assistant"):
        message = f"the answer must be the assistant's, not the {said.role}'s."
        fields.fault(Rule.ROLE_ORDER, message, key=f"{key}/from")
    return said

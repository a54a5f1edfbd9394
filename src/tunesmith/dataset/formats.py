"""The formats of training examples: told apart by their keys, parsed to one form, `Example`.

`alpaca` is `{"instruction", "input", "output"}` (Stanford Alpaca, 2023), with
LLaMA-Factory's `system` and `history`; there, as in `prompt_completion` and
`sharegpt`, further keys are passed over, since published files carry ids, scores
and rendered texts. The formats of other methods are known by name, so that they
can be refused by it.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from enum import StrEnum

from tunesmith.dataset.chat import chat_messages
from tunesmith.dataset.examples import Example, Message
from tunesmith.dataset.objects import Object, RefusedError
from tunesmith.dataset.problems import Problem, Rule, place
from tunesmith.dataset.rows import Row
from tunesmith.dataset.sharegpt import sharegpt_messages
from tunesmith.dataset.tools import Tools


class Format(StrEnum):
    """Which keys a file's rows have."""

    CHAT = "chat"
    """OpenAI's `messages`."""
    ALPACA = "alpaca"
    """`instruction`, `input`, `output`."""
    PROMPT_COMPLETION = "prompt_completion"
    """`prompt`, `completion`."""
    SHAREGPT = "sharegpt"
    """`conversations` of `from` and `value`."""
    PREFERENCE = "preference"
    """OpenAI's `input`, `preferred_output`, `non_preferred_output`; not supervised."""
    RANKING = "ranking"
    """A prompt or conversation with `chosen` and `rejected`; not supervised."""
    OPEA_DPO = "opea_dpo"
    """OPEA's `system`, `question`, `chosen`, `rejected`; not supervised."""
    REASONING = "reasoning"
    """OPEA's `Question`, `Complex_CoT`, `Response`; not supervised."""
    RERANK = "rerank"
    """OPEA's `query`, `pos`, `neg`, also for embedding; not supervised."""
    TEXT = "text"
    """Plain `text`; not supervised."""


_SHAPES = {
    Format.CHAT: '{"messages": [{"role": …, "content": …}, …]}',
    Format.ALPACA: '{"instruction": …, "input": …, "output": …}',
    Format.PROMPT_COMPLETION: '{"prompt": …, "completion": …}',
    Format.SHAREGPT: '{"conversations": [{"from": …, "value": …}, …]}',
}
_OTHER_METHODS = {
    Format.PREFERENCE: "dpo",
    Format.RANKING: "dpo",
    Format.OPEA_DPO: "dpo",
    Format.REASONING: "reasoning",
    Format.RERANK: "rerank or embedding",
    Format.TEXT: "pretraining",
}
# In this order: a pair has the keys of what it ranks, rows for embedding may carry a prompt,
# and files of alpaca a text.
_SIGNS: tuple[tuple[Format, Callable[[Set[str]], bool]], ...] = (
    (Format.OPEA_DPO, lambda keys: keys >= {"question", "chosen", "rejected"}),
    (Format.RANKING, lambda keys: keys >= {"chosen", "rejected"}),
    (Format.PREFERENCE, lambda keys: bool(keys & {"preferred_output", "non_preferred_output"})),
    (Format.CHAT, lambda keys: "messages" in keys),
    (Format.SHAREGPT, lambda keys: "conversations" in keys),
    (Format.ALPACA, lambda keys: bool(keys & {"instruction", "output"})),
    (Format.REASONING, lambda keys: keys >= {"Question", "Response"}),
    (Format.RERANK, lambda keys: "query" in keys and bool(keys & {"pos", "neg"})),
    (Format.PROMPT_COMPLETION, lambda keys: bool(keys & {"prompt", "completion"})),
    (Format.TEXT, lambda keys: "text" in keys),
)


class Parser:
    """Parses the rows of one file, all of which must have the first valid row's format."""

    def __init__(self) -> None:
        """Know no format yet."""
        self.format: Format | None = None
        """The format of the first valid row, or of one of another method, once there was one."""

    def parse(self, row: Row) -> Example | Problem:
        """Return the example in `row`, or the first thing that is wrong with it."""
        try:
            keys = Object(row.value, "")
            found = _detect(keys, self.format)
            if found in _OTHER_METHODS:
                self.format = found
                raise _of_other_method(found)
            tools = Tools()
            messages = _messages(keys, found, tools=tools)
        except RefusedError as error:
            return Problem(
                line=row.line,
                element=row.element,
                pointer=error.pointer,
                rule=error.rule,
                message=f"{place(row.line, row.element, pointer=error.pointer)}: {error.message}",
            )
        self.format = found
        return Example(row.line, messages, row.element, tuple(tools.defined))


def _detect(row: Object, settled: Format | None) -> Format:
    """Return the row's format, which must be `settled` where the file has one already."""
    found = next((name for name, has in _SIGNS if has(row.fields.keys())), None)
    if found is None:
        shapes = [_SHAPES[settled]] if settled in _SHAPES else list(_SHAPES.values())
        message = f"expected {' or '.join(shapes)}. {row.found()}"
        raise row.refused(Rule.UNKNOWN_FORMAT, message)
    if settled not in (None, found):
        message = f"this example is {found}, but those before it are {settled}."
        raise row.refused(Rule.MIXED_FORMATS, f"{message} Put one format into a file.")
    return found


def _of_other_method(found: Format) -> RefusedError:
    message = (
        f"the file is in the format '{found}', which the method 'supervised' does not take; "
        f"it is for {_OTHER_METHODS[found]}. Use one of {', '.join(_SHAPES)}."
    )
    return RefusedError("", Rule.WRONG_METHOD, message=message)


def _messages(row: Object, found: Format, *, tools: Tools) -> tuple[Message, ...]:
    match found:
        case Format.CHAT:
            return chat_messages(row, tools)
        case Format.SHAREGPT:
            return sharegpt_messages(row, tools)
        case Format.ALPACA:
            return _alpaca(row)
        case _:
            return _turns(row.text("prompt"), row.string("completion"))


def _turns(asked: str, answer: str) -> tuple[Message, ...]:
    # Published files have rows without an answer; such an example is set aside, not refused.
    return Message("user", asked, learn=False), Message("assistant", answer, learn=True)


def _alpaca(row: Object) -> tuple[Message, ...]:
    instruction = row.text("instruction")
    output = row.string("output")
    given = row.optional("input")
    if given:
        instruction = f"{instruction}\n\n{given}"
    system = row.optional("system")
    first = (Message("system", system, learn=False),) if system else ()
    return (*first, *_history(row), *_turns(instruction, output))


def _history(row: Object) -> tuple[Message, ...]:
    history = row.fields.get("history")
    if history in (None, []):
        return ()
    turns: list[Message] = []
    for at, item in enumerate(row.array("history", history)):
        key = f"history/{at}"
        pair = row.array(key, item)
        if len(pair) != 2:
            message = f"'{key}' must be a pair of the user's and the assistant's text."
            raise row.refused(Rule.WRONG_VALUE, message, key=key)
        asked, answer = (row.checked(f"{key}/{side}", text) for side, text in enumerate(pair))
        turns.append(Message("user", asked, learn=False))
        turns.append(Message("assistant", answer, learn=False))
    return tuple(turns)

"""The formats of training examples, told apart by their keys: each is parsed to one class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

from tunesmith.dataset import pairs, plain
from tunesmith.dataset.chat import chat_messages
from tunesmith.dataset.examples import AnyExample, Example
from tunesmith.dataset.objects import Fault, Object, as_object
from tunesmith.dataset.problems import Problem, Rule, place
from tunesmith.dataset.rows import Row
from tunesmith.dataset.sharegpt import sharegpt_messages
from tunesmith.dataset.tools import Tools
from tunesmith.domain.spec import Method


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
    """OpenAI's `input`, `preferred_output`, `non_preferred_output`."""
    RANKING = "ranking"
    """A prompt or conversation with `chosen` and `rejected`."""
    OPEA_DPO = "opea_dpo"
    """OPEA's `system`, `question`, `chosen`, `rejected`."""
    REASONING = "reasoning"
    """OPEA's `Question`, `Complex_CoT`, `Response`."""
    RERANK = "rerank"
    """OPEA's `query`, `pos`, `neg`, also for embedding."""
    TEXT = "text"
    """Plain `text`."""


_SHAPES = {
    Format.CHAT: '{"messages": [{"role": …, "content": …}, …]}',
    Format.ALPACA: '{"instruction": …, "input": …, "output": …}',
    Format.PROMPT_COMPLETION: '{"prompt": …, "completion": …}',
    Format.SHAREGPT: '{"conversations": [{"from": …, "value": …}, …]}',
    Format.PREFERENCE: '{"input": {"messages": …}, "preferred_output": …, …}',
    Format.RANKING: '{"conversations": …, "chosen": …, "rejected": …}',
    Format.OPEA_DPO: '{"question": …, "chosen": …, "rejected": …}',
    Format.REASONING: '{"Question": …, "Complex_CoT": …, "Response": …}',
    Format.RERANK: '{"query": …, "pos": […], "neg": […]}',
    Format.TEXT: '{"text": …}',
}
FORMATS_OF: dict[Method, tuple[Format, ...]] = {
    Method.SUPERVISED: (
        Format.CHAT,
        Format.ALPACA,
        Format.PROMPT_COMPLETION,
        Format.SHAREGPT,
    ),
    Method.DPO: (Format.PREFERENCE, Format.RANKING, Format.OPEA_DPO),
    Method.EMBEDDING: (Format.RERANK,),
    Method.RERANK: (Format.RERANK,),
}
"""Which formats each method takes."""

_MEANT_FOR = {
    **{taken: method.value for method, formats in FORMATS_OF.items() for taken in formats},
    Format.REASONING: "reasoning",
    Format.RERANK: "rerank or embedding",
    Format.TEXT: "pretraining",
}
# In this order: a pair has the keys of what it ranks, rows for embedding may carry a prompt,
# and files of alpaca a text. Of the first keys one is there, and of the second one as well.
_SIGNS: tuple[tuple[Format, frozenset[str], frozenset[str]], ...] = tuple(
    (found, frozenset(first), frozenset(second))
    for found, first, second in (
        (Format.OPEA_DPO, {"question"}, {"chosen", "rejected"}),
        (Format.RANKING, {"chosen", "rejected"}, {"chosen", "rejected"}),
        (Format.PREFERENCE, pairs.PREFERRED, pairs.PREFERRED),
        (Format.CHAT, {"messages"}, {"messages"}),
        (Format.SHAREGPT, {"conversations"}, {"conversations"}),
        (Format.ALPACA, {"instruction", "output"}, {"instruction", "output"}),
        (Format.REASONING, {"Question"}, {"Response"}),
        (Format.RERANK, {"query"}, {"pos", "neg"}),
        (Format.PROMPT_COMPLETION, {"prompt", "completion"}, {"prompt", "completion"}),
        (Format.TEXT, {"text"}, {"text"}),
    )
)


class Parser:
    """Parses the rows of one file, all of which must have the first valid row's format."""

    def __init__(self, method: Method | None) -> None:
        """Know no format yet; refuse those that `method` does not take (`None`: takes all)."""
        self.format: Format | None = None
        """The format of the first valid row, or of one of another method, once there was one."""
        self._method = method

    def parse(self, row: Row) -> AnyExample | tuple[Problem, ...]:
        """Return the example in `row`, or all that is wrong with it, at least one problem."""
        faults: list[Fault] = []
        fields = as_object(row.value, "", faults=faults)
        found = self._format(fields) if fields else None
        if fields is None or found is None:
            return _problems(row, faults)
        example = _PARSERS[found](row, fields)
        if faults:
            return _problems(row, faults)
        self.format = found
        return example

    def _format(self, row: Object) -> Format | None:
        """Return the row's format, if it is the one that the file has, where it has one already."""
        found = format_of(row.fields)
        if found is None:
            row.fault(Rule.UNKNOWN_FORMAT, f"expected {self._expected()}. {row.found()}")
        elif self._method and found not in FORMATS_OF[self._method]:
            self.format = found
            row.fault(Rule.WRONG_METHOD, _of_other_method(found, self._method))
            return None
        elif self.format not in (None, found):
            message = f"this example is {found}, but those before it are {self.format}."
            row.fault(Rule.MIXED_FORMATS, f"{message} Put one format into a file.")
            return None
        return found

    def _expected(self) -> str:
        if self.format:
            return _SHAPES[self.format]
        taken = FORMATS_OF[self._method] if self._method else tuple(_SHAPES)
        return " or ".join(_SHAPES[each] for each in taken)


def format_of(keys: Iterable[str]) -> Format | None:
    """Return the format that has `keys`, or some of them where they say enough."""
    for found, first, second in _SIGNS:
        if not first.isdisjoint(keys) and not second.isdisjoint(keys):
            return found
    return None


def _chat(row: Row, fields: Object) -> Example:
    tools = Tools()
    return Example(row.line, chat_messages(fields, tools), row.element, tuple(tools.defined))


def _sharegpt(row: Row, fields: Object) -> Example:
    tools = Tools()
    return Example(row.line, sharegpt_messages(fields, tools), row.element, tuple(tools.defined))


def _of_other_method(found: Format, method: Method) -> str:
    return (
        f"the file is in the format '{found}', which the method '{method}' does not take; "
        f"it is for {_MEANT_FOR[found]}. Use one of {', '.join(FORMATS_OF[method])}."
    )


def _problems(row: Row, faults: list[Fault]) -> tuple[Problem, ...]:
    return tuple(
        Problem(
            line=row.line,
            element=row.element,
            pointer=fault.pointer,
            rule=fault.rule,
            message=f"{place(row.line, row.element, pointer=fault.pointer)}: {fault.message}",
            last=fault.rule is Rule.WRONG_METHOD,
        )
        for fault in faults
    )


_PARSERS: dict[Format, Callable[[Row, Object], AnyExample]] = {
    Format.CHAT: _chat,
    Format.SHAREGPT: _sharegpt,
    Format.ALPACA: plain.alpaca,
    Format.PROMPT_COMPLETION: plain.prompt_completion,
    Format.PREFERENCE: pairs.preference,
    Format.RANKING: pairs.ranking,
    Format.OPEA_DPO: pairs.opea_dpo,
    Format.REASONING: plain.reasoning,
    Format.RERANK: plain.ranking,
    Format.TEXT: plain.text,
}

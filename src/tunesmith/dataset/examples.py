"""What the formats of training examples are parsed to: a class for each kind of learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.dataset.problems import place


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, as the assistant writes it."""

    id: str
    """By what the tool's message names the call that it answers."""
    name: str
    """Name of the tool."""
    arguments: Mapping[str, object] | str
    """The arguments' object, or their text as given where it is no JSON object."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str
    """What is said; may be empty beside tool calls."""
    learn: bool
    """Whether the model is to learn to say it; only ever true of the assistant."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The tools that the assistant calls, behind what it says."""
    tool_call_id: str = ""
    """The call that a tool's message answers; else empty."""
    name: str = ""
    """The tool that a tool's message comes from; else empty."""

    @property
    def said(self) -> bool:
        """Whether there is anything in it: words or calls."""
        return bool(self.content.strip() or self.tool_calls)


class _Placed:
    """Something that stands in a file and can name its place."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def line(self) -> int: ...

        @property
        def element(self) -> int: ...

    @property
    def place(self) -> str:
        """Where it stands in the file, for messages."""
        return place(self.line, self.element)


@dataclass(frozen=True, slots=True)
class Example(_Placed):
    """One conversation to learn from; its last message is the assistant's."""

    line: int
    """Line of the file on which it begins, from 1."""
    messages: tuple[Message, ...]
    """The turns, in order; a system message is the first or absent."""
    element: int = 0
    """Its number in the array, from 1; 0 where the file is no array."""
    tools: tuple[Mapping[str, object], ...] = ()
    """The tools that may be called, each `{"type": "function", "function": {…}}`."""

    @property
    def answered(self) -> bool:
        """Whether there is something in each answer that is to be learnt."""
        return all(message.said for message in self.messages if message.learn)


@dataclass(frozen=True, slots=True)
class Pair(_Placed):
    """Two answers to one conversation, of which one is preferred."""

    line: int
    """Line of the file on which it begins, from 1."""
    prompt: tuple[Message, ...]
    """The turns up to the answer, none of them learnt."""
    chosen: Message
    """The assistant's preferred answer, learnt."""
    rejected: Message
    """The assistant's other answer, learnt from as well."""
    element: int = 0
    """Its number in the array, from 1; 0 where the file is no array."""
    tools: tuple[Mapping[str, object], ...] = ()
    """The tools that may be called, each `{"type": "function", "function": {…}}`."""

    @property
    def undecided(self) -> bool:
        """Whether both answers say and call the same."""
        chosen, rejected = (
            (said.content, [(call.name, call.arguments) for call in said.tool_calls])
            for said in (self.chosen, self.rejected)
        )
        return chosen == rejected

    @property
    def answered(self) -> bool:
        """Whether there is something in both answers."""
        return self.chosen.said and self.rejected.said


@dataclass(frozen=True, slots=True)
class Text(_Placed):
    """A text that is learnt as it is."""

    line: int
    """Line of the file on which it begins, from 1."""
    text: str
    """All of it."""
    element: int = 0
    """Its number in the array, from 1; 0 where the file is no array."""

    @property
    def answered(self) -> bool:
        """Whether there is something in it."""
        return bool(self.text.strip())


@dataclass(frozen=True, slots=True)
class Reasoning(_Placed):
    """A question, what is thought about it, and the answer."""

    line: int
    """Line of the file on which it begins, from 1."""
    question: str
    """What the user asks."""
    thought: str
    """What the assistant thinks first; may be empty."""
    answer: str
    """What the assistant says then."""
    element: int = 0
    """Its number in the array, from 1; 0 where the file is no array."""

    @property
    def answered(self) -> bool:
        """Whether there is something in the answer."""
        return bool(self.answer.strip())


@dataclass(frozen=True, slots=True)
class Ranking(_Placed):
    """A query with passages that answer it and passages that do not."""

    line: int
    """Line of the file on which it begins, from 1."""
    query: str
    """What is looked for."""
    positives: tuple[str, ...]
    """Passages that answer the query, at least one."""
    negatives: tuple[str, ...]
    """Passages that do not, perhaps none."""
    element: int = 0
    """Its number in the array, from 1; 0 where the file is no array."""
    prompt: str = ""
    """The instruction that goes before the query; empty for none."""

    @property
    def answered(self) -> bool:
        """True: a passage is never empty."""
        return True


AnyExample = Example | Pair | Text | Reasoning | Ranking
"""What a row of some format is parsed to."""

"""What every format of training examples is parsed to: conversations, with their tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Example:
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
    def place(self) -> str:
        """Where it stands in the file, for messages."""
        return place(self.line, self.element)

    @property
    def answered(self) -> bool:
        """Whether there is something in each answer that is to be learnt."""
        return all(
            message.content.strip() or message.tool_calls
            for message in self.messages
            if message.learn
        )

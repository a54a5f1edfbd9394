"""OpenAI's chat completions: a conversation in, its next turn out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith.domain.answers import MOST_LOGPROBS, Call, Chat, Sampling, Spelling, Turn
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.protocol.sampling import MOST_TOKENS, FinishReason, SampledRequest, Usage
from tunesmith.protocol.wire import Only, Wire

_MOST_TURNS = 2048


class TextPart(Wire):
    """A part of a message."""

    type: Annotated[str, Only("text", mend="models here read text alone")]
    """What it is."""
    text: str
    """What it says."""


class FunctionCall(Wire):
    """The function that is called, and with what."""

    name: Annotated[str, Field(min_length=1)]
    """Its name."""
    arguments: str
    """Its arguments, JSON as the model wrote it."""

    @classmethod
    def to_wire(cls, call: Call) -> FunctionCall:
        """Return `call` as clients see it."""
        return cls(name=call.name, arguments=call.arguments)


class ToolCallObject(Wire):
    """A call of a tool."""

    id: Annotated[str, Field(min_length=1)]
    """By what a tool's message names it."""
    type: Literal["function"]
    """What is called."""
    function: FunctionCall
    """The call."""


class FunctionObject(Wire):
    """A function that the model may call."""

    name: Annotated[str, Field(min_length=1)]
    """Its name."""
    description: str | None = None
    """What it does."""
    parameters: dict[str, Any] | None = None
    """What it takes, a JSON schema."""
    strict: bool | None = None
    """Taken where it is no; arguments are not held to their schema."""


class ToolObject(Wire):
    """A tool that the model may call."""

    type: Literal["function"]
    """What it is."""
    function: FunctionObject
    """The function."""


class ChatMessage(Wire):
    """One message of the conversation. What OpenAI answers with besides may be sent back."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Who says it; `developer` is another word for `system`."""
    content: str | list[TextPart] | None = None
    """What is said; null only beside calls of tools."""
    name: str | None = None
    """Taken, and shown to no model."""
    tool_calls: list[ToolCallObject] | None = None
    """The tools that the assistant calls."""
    tool_call_id: str | None = None
    """The call that a tool's message answers."""
    refusal: str | None = None
    """Taken, and shown to no model."""
    annotations: list[Any] | None = None
    """Taken, and shown to no model."""
    audio: None = None
    """Always null."""
    function_call: None = None
    """Always null: the older form of `tool_calls` is not taken."""

    def to_turn(self, place: str, *, called: dict[str, str]) -> Turn:
        """Return the message as a turn.

        `called` are the names of the tools by the ids of the calls before it. Raises
        `InvalidRequestError` with the `place` at fault.
        """
        calls = tuple(
            Call(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in self.tool_calls or ()
        )
        if calls and self.role != "assistant":
            raise _fault(f"{place}.tool_calls", "only the assistant calls tools; remove it")
        if self.content is None and not calls:
            raise _fault(f"{place}.content", "is missing; say something")
        if self.role == "tool" and self.tool_call_id not in called:
            raise _fault(f"{place}.tool_call_id", "must be the id of a call before this message")
        parts = self.content if isinstance(self.content, list) else ()
        return Turn(
            role="system" if self.role == "developer" else self.role,
            content=self.content if isinstance(self.content, str) else _joined(parts),
            calls=calls,
            call_id=self.tool_call_id or "" if self.role == "tool" else "",
            name=called.get(self.tool_call_id or "", "") if self.role == "tool" else "",
        )


class ResponseFormat(Wire):
    """What form the answer has."""

    type: Annotated[str, Only("text", mend="answers are held to no form; ask for it in words")]
    """Its kind."""


class CreateChatCompletion(SampledRequest):
    """Asks for the next turn of a conversation."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=_MOST_TURNS)]
    """What was said so far, the oldest first."""
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    """The most tokens of an answer; null means as many as the model has room for."""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    """The older name of `max_completion_tokens`."""
    logprobs: bool | None = None
    """Whether the likelihood of each token is told."""
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    """How many of the likeliest tokens are told at each place."""
    tools: list[ToolObject] | None = None
    """The tools that may be called, by models whose template knows of tools."""
    tool_choice: (
        Annotated[str, Only("auto", "none", mend="models here cannot be made to call a tool")]
        | None
    ) = None
    """`none` shows the model no tool."""
    parallel_tool_calls: bool | None = None
    """Taken; how many tools a model calls is its own choice."""
    response_format: ResponseFormat | None = None
    """What form the answer has."""
    metadata: dict[str, str] | None = None
    """Taken, and kept nowhere."""
    store: Annotated[bool, Only(False, mend="answers are kept nowhere; leave it out")] | None = None
    """Whether the answer is kept."""

    def to_chat(self) -> Chat:
        """Return what is asked. Raises `InvalidRequestError`."""
        called: dict[str, str] = {}
        turns = []
        for number, message in enumerate(self.messages):
            turns.append(message.to_turn(f"messages.{number}", called=called))
            called |= {call.id: call.name for call in turns[-1].calls}
        tools = () if self.tool_choice == "none" else self.tools or ()
        shown = tuple(tool.model_dump(exclude_none=True) for tool in tools)
        return Chat(turns=tuple(turns), tools=shown)

    def to_sampling(self) -> Sampling:
        """Return how the answer is sampled. Raises `InvalidRequestError`."""
        if self.top_logprobs is not None and not self.logprobs:
            raise _fault("top_logprobs", "needs 'logprobs' to be true")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise _fault("max_tokens", "is the older name of 'max_completion_tokens'; give one")
        return self.sampling_with(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )


class ChatLikely(Wire):
    """A token with its likelihood."""

    token: str
    """What it writes."""
    logprob: float
    """Its log-probability, in nats."""
    bytes: list[int] | None
    """The same in UTF-8; null where it is a part of a character."""


class ChatSpelling(ChatLikely):
    """A token of the answer."""

    top_logprobs: list[ChatLikely]
    """The likeliest tokens at its place, the likeliest first."""


class ChatLogprobs(Wire):
    """How likely the tokens of an answer are."""

    content: list[ChatSpelling]
    """Its tokens."""
    refusal: None = None
    """Always null."""

    @classmethod
    def to_wire(cls, spelled: Sequence[Spelling]) -> ChatLogprobs:
        """Return the tokens that were `spelled` as clients see them."""
        return cls(
            content=[
                ChatSpelling(
                    token=each.text,
                    logprob=each.logprob,
                    bytes=_bytes(each.text),
                    top_logprobs=[
                        ChatLikely(
                            token=other.text, logprob=other.logprob, bytes=_bytes(other.text)
                        )
                        for other in each.likeliest
                    ],
                )
                for each in spelled
            ]
        )


class ChatAnswer(Wire):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    """Who says it."""
    content: str | None
    """What is said; null where tools are called and nothing else."""
    refusal: None = None
    """Always null."""
    tool_calls: Annotated[
        list[ToolCallObject] | None, Field(exclude_if=lambda calls: calls is None)
    ] = None
    """The tools that are called."""

    @classmethod
    def to_wire(cls, text: str, calls: Sequence[Call]) -> ChatAnswer:
        """Return an answer that says `text` and then `calls` tools."""
        called = [
            ToolCallObject(id=call.id, type="function", function=FunctionCall.to_wire(call))
            for call in calls
        ]
        return cls(content=None if calls and not text else text, tool_calls=called or None)


class ChatChoice(Wire):
    """One answer."""

    index: int
    """Its number, from 0."""
    message: ChatAnswer
    """What is said."""
    logprobs: ChatLogprobs | None
    """How likely its tokens are, where that was asked for."""
    finish_reason: FinishReason
    """Why it ended."""


class ChatCompletion(Wire):
    """The answers to a conversation."""

    id: str
    """`chatcmpl-…`."""
    object: Literal["chat.completion"] = "chat.completion"
    """Tells the kinds of objects apart."""
    created: int
    """Unix seconds."""
    model: str
    """The model, as it was asked for."""
    choices: list[ChatChoice]
    """The answers."""
    usage: Usage
    """How many tokens there were."""
    system_fingerprint: None = None
    """Always null."""


class CallDelta(Wire):
    """A call of a tool, whole."""

    index: int
    """Its number, from 0."""
    id: str
    """By what a tool's message names it."""
    type: Literal["function"] = "function"
    """What is called."""
    function: FunctionCall
    """The call."""

    @classmethod
    def to_wire(cls, call: Call, *, index: int) -> CallDelta:
        """Return `call`, the one of that number, as clients see it."""
        return cls(index=index, id=call.id, function=FunctionCall.to_wire(call))


class ChatDelta(Wire):
    """What an answer goes on with."""

    role: Annotated[Literal["assistant"] | None, Field(exclude_if=lambda role: role is None)] = None
    """Who says it; told first."""
    content: Annotated[str | None, Field(exclude_if=lambda text: text is None)] = None
    """What is said next."""
    tool_calls: Annotated[list[CallDelta] | None, Field(exclude_if=lambda calls: calls is None)] = (
        None
    )
    """The tools that are called."""


class ChatChunkChoice(Wire):
    """What is told next of one answer."""

    index: int
    """Its number, from 0."""
    delta: ChatDelta
    """What it goes on with."""
    logprobs: ChatLogprobs | None = None
    """How likely the tokens are, where that was asked for."""
    finish_reason: FinishReason | None = None
    """Why it ended, where it did."""


class ChatChunk(Wire):
    """A server-sent event of a streamed answer."""

    id: str
    """`chatcmpl-…`, the same in all chunks."""
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    """Tells the kinds of objects apart."""
    created: int
    """Unix seconds, the same in all chunks."""
    model: str
    """The model, as it was asked for."""
    choices: list[ChatChunkChoice]
    """What is told; empty in the chunk that counts."""
    usage: Annotated[Usage | None, Field(exclude_if=lambda usage: usage is None)] = None
    """How many tokens there were, in the last chunk where that was asked for."""
    system_fingerprint: None = None
    """Always null."""


def _joined(parts: Sequence[TextPart]) -> str:
    return "".join(part.text for part in parts)


def _bytes(text: str) -> list[int] | None:
    return None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())


def _fault(place: str, words: str) -> InvalidRequestError:
    return InvalidRequestError(f"'{place}' {words}.", param=place)

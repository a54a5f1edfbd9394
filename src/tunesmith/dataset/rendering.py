"""Renders examples through a model's chat template and marks the tokens that are learnt.

What is learnt of an answer: everything that the model would have to write
itself at inference, that is from the end of the generation prompt up to and
including the token that ends its turn. The prompt, the other roles' turns and
the line break that a template puts behind the end of a turn are not. Of a plain
text all is learnt.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tunesmith.dataset.examples import Example, Message, Reasoning, Text
from tunesmith.dataset.problems import Rule
from tunesmith.dataset.texts import whole_text, window_starts
from tunesmith.dataset.thinking import continuation, opens_thought, split_thought, think_marks
from tunesmith.dataset.turns import Tokenizer, learnt_size, said_in, turn_of
from tunesmith.domain.spec import THINK_MARKS, ThinkMarks
from tunesmith.domain.values import Value

DEFAULT_TEMPLATE = (
    "{{ bos_token or '' }}"
    "{% for message in messages %}"
    "{{ '### ' + message['role'] | capitalize + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token or '' }}{% endif %}"
    "{{ '\n\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
"""The chat template of models that have none: a heading and plain text for each turn.

`bos_token` stands at the start where there is one, and each answer ends with
`eos_token`, so that the model learns to stop.
"""

_NO_BEGINNING = (
    "the model's chat template writes this conversation otherwise than its prompt, "
    "so that the answer's beginning is unknown. Change the example or the template."
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text to train on; it ends with the last token that is learnt from."""

    line: int
    """Line of the file on which its example begins, from 1."""
    element: int
    """Its example's number in the array, from 1; 0 where the file is no array."""
    tokens: array[int]
    """Token ids, never more than `max_length`; no padding."""
    learn: bytearray
    """For each token, 1 where it is learnt, else 0."""
    cut: bool
    """Whether answers of its example, or a part of one, lay beyond `max_length`."""

    @property
    def learnt(self) -> int:
        """Number of tokens that are learnt, at least 1."""
        return self.learn.count(1)


class SetAsideRule(StrEnum):
    """Why an example is not trained on: stable ids, for programs."""

    ANSWER_CUT_AWAY = "answer_cut_away"
    """All that is to be learnt lies beyond the longest length."""
    OVER_LENGTH = "over_length"
    """It is longer than the longest length, and the policy is not to cut."""
    EMPTY_ANSWER = "empty_answer"
    """There is nothing in the answer."""
    TEMPLATE_REFUSED = "template_refused"
    """The model's chat template does not take such a conversation."""
    TOOLS_IGNORED = "tools_ignored"
    """The template does not write the tools, or not their calls."""
    ANSWER_NOT_FOUND = "answer_not_found"
    """The template's text does not show where the answer begins."""
    NO_NEGATIVES = "no_negatives"
    """There is no passage to tell the right one from."""


class SetAside(Value):
    """An example that is not trained on, and why."""

    line: int
    """Line of the file on which it begins, from 1."""
    element: int
    """Its number in the array, from 1; 0 where the file is no array."""
    rule: SetAsideRule | Rule
    """What it is about: `Rule` where the row itself breaks one."""
    reason: str
    """The place, what is wrong, and how to mend it."""


def ensure_template(tokenizer: Tokenizer) -> bool:
    """Give `tokenizer` the `DEFAULT_TEMPLATE` if it has none; return whether it had none."""
    if tokenizer.chat_template:
        return False
    tokenizer.chat_template = DEFAULT_TEMPLATE
    return True


Rendering = Example | Reasoning | Text
"""What is rendered as texts to train on."""


def encode(
    example: Rendering,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    think: ThinkMarks = THINK_MARKS,
) -> tuple[Encoded, ...] | SetAside:
    """Return what of `example` is trained on: one text, or one text for each answer.

    One text for each answer, with the conversation up to it, is returned where
    the template writes earlier turns otherwise than the last one (Qwen3 drops
    their reasoning), so that each answer is learnt behind the prompt that
    inference would give. The end of a text that is longer than `max_length`
    tokens is cut off; a plain text is learnt in windows of that length, and
    nothing of it is lost. `think` marks the thoughts of `Reasoning`, where the
    model has no marks of its own.
    """
    texts = render(example, tokenizer, think=think)
    if isinstance(texts, SetAside):
        return texts
    if isinstance(example, Text):
        return _windows(example, texts[0], tokenizer=tokenizer, max_length=max_length)
    encoded = [
        _encoded(example, text, tokenizer=tokenizer, max_length=max_length) for text in texts
    ]
    kept = [item for item in encoded if item.learnt]
    if not kept:
        return cut_away(example, max_length)
    if len(kept) < len(encoded):
        kept[-1] = replace(kept[-1], cut=True)
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text to train on, before it is encoded."""

    text: str
    """A conversation up to the end of its last answer that is learnt, or a plain text."""
    spans: tuple[tuple[int, int], ...]
    """Characters that are learnt, from and to, ascending."""


def render(
    example: Rendering, tokenizer: Tokenizer, *, think: ThinkMarks = THINK_MARKS
) -> tuple[Rendered, ...] | SetAside:
    """Return the texts that `encode` would encode, with what of them is learnt."""
    if not example.answered:
        what = "text" if isinstance(example, Text) else "answer"
        fault = f"the {what} is empty. Fill it in, or remove the example."
        return _set_aside(example, SetAsideRule.EMPTY_ANSWER, fault=fault)
    try:
        match example:
            case Text():
                text = whole_text(example.text, tokenizer)
                return (Rendered(text, ((0, len(text)),)),)
            case Reasoning():
                return (_reasoned(example, tokenizer, think=think),)
            case _:
                return _texts(example, tokenizer)
    except _UnfitError as error:
        return _set_aside(example, error.rule, fault=error.reason)


def learnt_tokens(
    offsets: Sequence[tuple[int, int]], spans: Iterable[tuple[int, int]]
) -> Iterator[slice]:
    """Yield for each span which tokens, of the characters `offsets`, begin inside it.

    A token that begins before a span and reaches into it mixes prompt and
    answer: at inference the prompt ends with another token, behind which the
    model could never write this one, so it is not learnt. A token that begins
    inside a span and reaches beyond it is learnt, as the answer's end is in it.
    """
    for begin, end in spans:
        first = bisect_left(offsets, (begin, 0))
        yield slice(first, bisect_left(offsets, (end, 0), first))


class _UnfitError(Exception):
    """The template cannot render the conversation so that it can be learnt from."""

    def __init__(self, rule: SetAsideRule, reason: str) -> None:
        super().__init__(reason)
        self.rule, self.reason = rule, reason


def _texts(example: Example, tokenizer: Tokenizer) -> tuple[Rendered, ...]:
    answers = [at for at, message in enumerate(example.messages) if message.learn]
    writer = _Writer(example, tokenizer)
    whole = writer.text(answers, end=len(example.messages))
    _refuse_ignored_tools(example, writer)
    if whole is not None:
        return (whole,)
    single = [writer.text([at], end=at + 1) or writer.continued(at) for at in answers]
    texts = tuple(text for text in single if text is not None)
    if len(texts) < len(answers):
        raise _UnfitError(SetAsideRule.ANSWER_NOT_FOUND, _NO_BEGINNING)
    return texts


def _reasoned(example: Reasoning, tokenizer: Tokenizer, *, think: ThinkMarks) -> Rendered:
    thought, answer = example.thought.strip(), example.answer.strip()
    asked = Message("user", example.question, learn=False)
    said = Message("assistant", answer, learn=True)
    writer = _Writer(Example(example.line, (asked, said), example.element), tokenizer)
    marks = think_marks(tokenizer, think)
    return writer.thinking(1, thought=thought, answer=answer, marks=marks)


def _refuse_ignored_tools(example: Example, writer: _Writer) -> None:
    """Refuse `example` if the template leaves out its tools, or one of its calls."""
    if not example.tools:
        return
    bare = [replace(example, tools=())]
    for at, message in enumerate(example.messages):
        if message.tool_calls:
            silent = replace(message, tool_calls=())
            others = (*example.messages[:at], silent, *example.messages[at + 1 :])
            bare.append(replace(example, messages=others))
    end = len(example.messages)
    full = writer.write(end, prompt=False)
    for other in bare:
        try:
            ignored = _Writer(other, writer.tokenizer).write(end, prompt=False) == full
        except _UnfitError:
            # It minds what was left out.
            continue
        if ignored:
            reason = (
                "the model's chat template leaves out the tools or their calls. "
                "Use a model whose template writes tools, or remove the example."
            )
            raise _UnfitError(SetAsideRule.TOOLS_IGNORED, reason)


class _Writer:
    """Writes an example, or its beginning, through the template; each beginning once."""

    def __init__(self, example: Example, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._example = example
        self._turns = [turn_of(message) for message in example.messages]
        self._tools = list(example.tools) or None
        self._written: dict[tuple[int, bool], str] = {}

    def text(self, answers: Sequence[int], *, end: int) -> Rendered | None:
        """Return the first `end` turns with the spans of `answers`; `None` if one is not found."""
        full = self.write(end, prompt=False)
        spans: list[tuple[int, int]] = []
        closed = False
        for at in answers:
            before = self.write(at, prompt=True)
            behind = self.write(at + 1, prompt=False)
            if not full.startswith(behind) or not behind.startswith(before):
                return None
            turn = behind[len(before) :]
            message = self._example.messages[at]
            if THINK_MARKS[1] in message.content and THINK_MARKS[1] not in turn:
                return None
            size, closed = learnt_size(turn, message, tokenizer=self.tokenizer)
            spans.append((len(before), len(before) + size))
        begin, last = spans[-1]
        text = full[:last]
        if not closed and self.tokenizer.eos_token:
            # A model that never sees an end never stops; the template gives none here.
            text += self.tokenizer.eos_token
            spans[-1] = (begin, len(text))
        return Rendered(text, tuple(spans))

    def continued(self, at: int) -> Rendered | None:
        """Return the turns up to the answer `at` with its thought, which may be empty.

        `None` where the prompt opens no thought and the answer has none, or where it calls
        tools, which the template alone knows how to write.
        """
        message = self._example.messages[at]
        thinks = THINK_MARKS[1] in message.content
        if message.tool_calls or not (
            thinks or opens_thought(self.write(at, prompt=True), THINK_MARKS)
        ):
            return None
        thought, answer = split_thought(message.content, THINK_MARKS)
        return self.thinking(at, thought=thought, answer=answer, marks=THINK_MARKS)

    def thinking(self, at: int, *, thought: str, answer: str, marks: ThinkMarks) -> Rendered:
        """Return the turns before `at`, and what inference would have to say behind their prompt.

        The template writes the prompt, and the answer's turn alone tells how it ends.
        """
        prompt, asked = self.write(at, prompt=True), self.write(at, prompt=False)
        behind = self.write(at + 1, prompt=False)
        heading, end = said_in(behind.removeprefix(asked), answer, tokenizer=self.tokenizer)
        text = prompt
        if prompt == asked:
            # The template has no generation prompt: the model writes the heading as well.
            if not behind.startswith(asked):
                raise _UnfitError(SetAsideRule.ANSWER_NOT_FOUND, _NO_BEGINNING)
            text += heading.partition(marks[0])[0]
        text += continuation(text, thought=thought, answer=answer, marks=marks) + end
        return Rendered(text, ((len(prompt), len(text)),))

    def write(self, end: int, *, prompt: bool) -> str:
        """Return the text of the first `end` turns, with the generation prompt or without."""
        if (end, prompt) not in self._written:
            self._written[end, prompt] = self._render(self._turns[:end], prompt=prompt)
        return self._written[end, prompt]

    def _render(self, turns: list[dict[str, Any]], *, prompt: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                turns, tools=self._tools, tokenize=False, add_generation_prompt=prompt
            )
        # A template is the model's own program: it may raise anything, mostly on purpose.
        except Exception as error:  # noqa: BLE001
            reason = f"the model's chat template does not take this conversation ({error})."
            raise _UnfitError(SetAsideRule.TEMPLATE_REFUSED, reason) from None
        return str(text)


def _windows(
    example: Text, text: Rendered, *, tokenizer: Tokenizer, max_length: int
) -> tuple[Encoded, ...] | SetAside:
    encoding = tokenizer(text.text, add_special_tokens=False, return_offsets_mapping=False)
    whole = array("i", encoding["input_ids"])
    windows = [whole[at : at + max_length] for at in window_starts(len(whole), max_length)]
    if not windows:
        return too_short(example)
    return tuple(
        Encoded(example.line, example.element, tokens, _all_but_first(len(tokens)), cut=False)
        for tokens in windows
    )


def _all_but_first(tokens: int) -> bytearray:
    return bytearray(bytes([0]) + bytes([1]) * (tokens - 1))


def _encoded(
    example: Rendering, text: Rendered, *, tokenizer: Tokenizer, max_length: int
) -> Encoded:
    # Templates write the tokens that begin a text themselves.
    encoding = tokenizer(text.text, add_special_tokens=False, return_offsets_mapping=True)
    tokens = array("i", encoding["input_ids"])
    learn = bytearray(len(tokens))
    for chosen in learnt_tokens(encoding["offset_mapping"], text.spans):
        learn[chosen] = bytes([1]) * (chosen.stop - chosen.start)
    cut = 1 in learn[max_length:]
    return Encoded(example.line, example.element, tokens[:max_length], learn[:max_length], cut)


def too_short(example: Text) -> SetAside:
    """Return why `example` is set aside, whose text is a single token."""
    fault = (
        "the text is a single token, before which nothing stands to tell it from. "
        "Lengthen it, or remove the example."
    )
    return _set_aside(example, SetAsideRule.EMPTY_ANSWER, fault=fault)


def cut_away(example: Rendering, max_length: int) -> SetAside:
    """Return why `example` is set aside, of whose answers nothing is in `max_length` tokens."""
    fault = (
        f"what comes before the answer fills the longest length, {max_length} tokens. "
        "Shorten the prompt, or raise max_length."
    )
    return _set_aside(example, SetAsideRule.ANSWER_CUT_AWAY, fault=fault)


def _set_aside(example: Rendering, rule: SetAsideRule, *, fault: str) -> SetAside:
    return SetAside(
        line=example.line,
        element=example.element,
        rule=rule,
        reason=f"{example.place}: {fault}",
    )

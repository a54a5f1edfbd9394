from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest

from tunesmith.dataset.examples import Example, Message, ToolCall
from tunesmith.dataset.rendering import DEFAULT_TEMPLATE, SetAside, SetAsideRule, encode

MakeTokenizer = Callable[..., Any]

IM = ("<|im_start|>", "<|im_end|>")
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}" + PROMPT
)
LISTS_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
)
# As Qwen's: arguments are written as JSON, so that they must come decoded.
QWEN = (
    LISTS_TOOLS + "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    '{% for c in m.tool_calls or [] %}{{ \'<tool_call>{"name": "\' + c.function.name '
    "+ '\", \"arguments\": ' }}{{ c.function.arguments | tojson }}{{ '}</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}" + PROMPT
)
# As Mistral's: a special token stands before the calls, another one ends the turn.
MISTRAL = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.tool_calls %}"
    "{{ '[CALLS]' + m.tool_calls[0].function.name + '</s>' }}{% else %}"
    "{{ m.content + '</s>' }}{% endif %}"
    "{% else %}{{ '[' + m.role + ']' + (tools | tojson if tools else '') + m.content + '[/]' }}"
    "{% endif %}{% endfor %}"
)

TOOL = {"type": "function", "function": {"name": "weather"}}
CALLED = Message(
    "assistant", "", learn=True, tool_calls=(ToolCall("c1", "weather", {"city": "Rome"}),)
)
ASKED = Message("user", "warm?", learn=False)
SUNNY = Message("tool", "sunny", learn=False, tool_call_id="c1", name="weather")
EXAMPLE = Example(
    7, (ASKED, CALLED, SUNNY, Message("assistant", "Yes.", learn=True)), tools=(TOOL,)
)


def learnt_texts(example: Example, tokenizer: Any) -> list[str]:
    result = encode(example, tokenizer, max_length=10_000)
    assert not isinstance(result, SetAside), result.reason
    [encoded] = result
    pairs = zip(encoded.learn, encoded.tokens, strict=True)
    return [
        tokenizer.decode([token for _, token in run])
        for learnt, run in groupby(pairs, key=lambda pair: pair[0])
        if learnt
    ]


def test_calls_are_learnt_with_their_arguments_and_the_end_of_the_turn(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(QWEN, specials=IM, eos_token="<|im_end|>")
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call><|im_end|>'
    assert learnt_texts(EXAMPLE, tokenizer) == [call, "Yes.<|im_end|>"]
    said = replace(CALLED, content="Let me look.")
    spoken = replace(EXAMPLE, messages=(ASKED, said))
    assert learnt_texts(spoken, tokenizer) == [f"Let me look.{call}"]


def test_arguments_that_are_text_reach_the_template_as_text(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(QWEN, specials=IM, eos_token="<|im_end|>")
    called = replace(CALLED, tool_calls=(ToolCall("c1", "weather", "Rome"),))
    [text] = learnt_texts(replace(EXAMPLE, messages=(ASKED, called)), tokenizer)
    assert '"arguments": "Rome"' in text


def test_a_special_token_before_the_calls_does_not_end_them(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(MISTRAL, specials=("[CALLS]",), eos_token="</s>")
    assert learnt_texts(EXAMPLE, tokenizer) == ["[CALLS]weather</s>", "Yes.</s>"]


@pytest.mark.parametrize(
    "template",
    [CHATML, DEFAULT_TEMPLATE, LISTS_TOOLS + CHATML],
    ids=["ChatML", "default", "tools without their calls"],
)
def test_where_the_template_leaves_out_tools_or_calls_the_example_is_set_aside(
    make_tokenizer: MakeTokenizer, template: str
) -> None:
    tokenizer = make_tokenizer(template, specials=IM, eos_token="<|im_end|>")
    result = encode(EXAMPLE, tokenizer, max_length=10_000)
    assert isinstance(result, SetAside)
    assert (result.rule, result.line) == (SetAsideRule.TOOLS_IGNORED, 7)
    assert "leaves out the tools" in result.reason


def test_tools_that_are_defined_but_never_called_must_be_written_too(
    make_tokenizer: MakeTokenizer,
) -> None:
    uncalled = replace(EXAMPLE, messages=(ASKED, Message("assistant", "No.", learn=True)))
    ignored = encode(uncalled, make_tokenizer(CHATML, specials=IM), max_length=10_000)
    assert isinstance(ignored, SetAside)
    assert ignored.rule is SetAsideRule.TOOLS_IGNORED
    tokenizer = make_tokenizer(QWEN, specials=IM, eos_token="<|im_end|>")
    assert learnt_texts(uncalled, tokenizer) == ["No.<|im_end|>"]

"""Thought and answer are learnt exactly as inference would go on behind the prompt."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from tunesmith.dataset.examples import Example, Message, Reasoning, ToolCall
from tunesmith.dataset.rendering import Encoded, SetAside, SetAsideRule, encode, ensure_template
from tunesmith.domain.spec import THINK_MARKS

MakeTokenizer = Callable[..., Any]

IM = ("<|im_start|>", "<|im_end|>")
THINK = (*IM, *THINK_MARKS)
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
OPENING = PROMPT.replace("assistant\n", "assistant\n<think>\n")
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}" + PROMPT
)
OPENS = CHATML.replace(PROMPT, OPENING)
"""Opens the thought in the generation prompt, and writes answers without."""
OPENS_BARE = CHATML.replace(PROMPT, PROMPT.replace("assistant\n", "assistant\n<think>"))
"""Opens it with nothing behind the mark."""
DROPS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{{ (m.content.split('</think>') | last).lstrip('\n') + '<|im_end|>\n' }}{% endfor %}"
)
"""Leaves all thoughts out; its prompts open one, or not, by what is put behind."""
DROPS_EARLIER = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if loop.last %}{{ m.content }}"
    "{% else %}{{ (m.content.split('</think>') | last).lstrip('\n') }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}" + PROMPT
)
"""As Qwen3: keeps the thought of the last turn alone."""
CLOSES = CHATML.replace(PROMPT, PROMPT.replace("assistant\n", "assistant\n<think>\n\n</think>\n\n"))
"""Asks for no thought: opens one and ends it at once."""
INST = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + '</s>' }}{% endif %}{% endfor %}"
)
"""As Llama 2: has no generation prompt."""

ROW = Reasoning(3, "6 * 7?", " 6 + 6 ...\n", "It is 42.\n")


def encoded(example: Example | Reasoning, tokenizer: Any, **options: Any) -> tuple[Encoded, ...]:
    found = encode(example, tokenizer, max_length=10_000, **options)
    assert not isinstance(found, SetAside), found.reason
    return found


def halves(text: Encoded, tokenizer: Any) -> tuple[str, str]:
    """What is not learnt, and what is learnt behind it; nothing follows."""
    runs = [
        (bool(learnt), [token for _, token in run])
        for learnt, run in groupby(
            zip(text.learn, text.tokens, strict=True), key=lambda pair: pair[0]
        )
    ]
    assert [learnt for learnt, _ in runs] == [False, True]
    before, behind = (tokenizer.decode(tokens) for _, tokens in runs)
    return before, behind


def prompt_tokens(tokenizer: Any, *turns: dict[str, str]) -> list[int]:
    text = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


ASKED = {"role": "user", "content": "6 * 7?"}
WHOLE = "<think>\n6 + 6 ...\n</think>\n\nIt is 42.<|im_end|>"
OPENED = "6 + 6 ...\n</think>\n\nIt is 42.<|im_end|>"


@pytest.mark.parametrize("specials", [IM, THINK], ids=["as text", "as tokens"])
@pytest.mark.parametrize(
    ("template", "learnt"),
    [
        pytest.param(CHATML, WHOLE, id="no thoughts known"),
        pytest.param(OPENS, OPENED, id="the prompt opens the thought"),
        pytest.param(OPENS_BARE, "\n" + OPENED, id="the prompt ends with the mark"),
        pytest.param(DROPS + PROMPT, WHOLE, id="all thoughts are left out"),
        pytest.param(DROPS + OPENING, OPENED, id="left out, and opened"),
        pytest.param(DROPS_EARLIER, WHOLE, id="earlier thoughts are left out"),
        pytest.param(CLOSES, WHOLE, id="the prompt asks for none"),
    ],
)
def test_thought_and_answer_are_learnt_behind_the_prompt_of_inference(
    make_tokenizer: MakeTokenizer, template: str, learnt: str, specials: tuple[str, ...]
) -> None:
    tokenizer = make_tokenizer(template, specials=specials, eos_token="<|im_end|>")

    [text] = encoded(ROW, tokenizer)

    assert halves(text, tokenizer)[1] == learnt
    count = text.learn.index(1)
    assert list(text.tokens[:count]) == prompt_tokens(tokenizer, ASKED)
    assert (text.line, text.cut) == (3, False)


def test_a_models_own_marks_are_single_tokens_and_no_token_is_added(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(CHATML, specials=THINK, eos_token="<|im_end|>")
    size = len(tokenizer)

    [text] = encoded(ROW, tokenizer)

    for mark in THINK_MARKS:
        assert text.tokens.count(tokenizer.convert_tokens_to_ids(mark)) == 1
    assert len(tokenizer) == size


@pytest.mark.parametrize("template", [CHATML, None])
def test_a_model_without_marks_takes_the_stated_ones_as_plain_text(
    make_tokenizer: MakeTokenizer, template: str | None
) -> None:
    tokenizer = make_tokenizer(template, specials=IM, eos_token="<|im_end|>")
    ensure_template(tokenizer)

    [text] = encoded(ROW, tokenizer, think=("[T]", "[/T]"))

    assert halves(text, tokenizer)[1] == WHOLE.replace("<think>", "[T]").replace("</think>", "[/T]")


@pytest.mark.parametrize(
    ("template", "specials", "learnt"),
    [
        (CHATML, THINK, WHOLE),
        (CLOSES, IM, WHOLE),
        (OPENS, IM, OPENED),
        (DROPS + PROMPT, IM, WHOLE),
    ],
)
def test_a_models_own_marks_go_before_the_stated_ones(
    make_tokenizer: MakeTokenizer, template: str, specials: tuple[str, ...], learnt: str
) -> None:
    tokenizer = make_tokenizer(template, specials=specials, eos_token="<|im_end|>")
    [text] = encoded(ROW, tokenizer, think=("[T]", "[/T]"))
    assert halves(text, tokenizer)[1] == learnt


def test_a_template_with_no_generation_prompt_learns_its_heading_as_answers_do(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(INST, eos_token="</s>")
    [text] = encoded(ROW, tokenizer)
    assert halves(text, tokenizer) == (
        "[INST] 6 * 7? [/INST]",
        " <think>\n6 + 6 ...\n</think>\n\nIt is 42.</s>",
    )


@pytest.mark.parametrize("begin", ["", "<|im_start|>"])
def test_a_template_that_ends_no_turn_is_ended_by_the_token_that_ends_texts(
    make_tokenizer: MakeTokenizer, begin: str
) -> None:
    plain = (
        "{% for m in messages %}{{ '# ' + m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '# assistant: ' }}{% endif %}"
    ).replace("# ", begin)
    tokenizer = make_tokenizer(plain, specials=IM, eos_token="</s>")
    [text] = encoded(ROW, tokenizer)
    assert halves(text, tokenizer)[1].endswith("It is 42.</s>")


@pytest.mark.parametrize(
    ("template", "learnt"),
    [(CHATML, "<think>\n\n</think>\n\nYes.<|im_end|>"), (OPENS, "</think>\n\nYes.<|im_end|>")],
)
def test_a_row_without_a_thought_learns_to_have_none(
    make_tokenizer: MakeTokenizer, template: str, learnt: str
) -> None:
    # Two line breaks are one token here: behind an opened thought it could never be written.
    tokenizer = make_tokenizer(template, specials=IM, eos_token="<|im_end|>")
    [text] = encoded(Reasoning(1, "Sure?", "", "Yes."), tokenizer)
    assert halves(text, tokenizer)[1] == learnt
    asked = {"role": "user", "content": "Sure?"}
    assert list(text.tokens[: text.learn.index(1)]) == prompt_tokens(tokenizer, asked)


def test_a_short_answer_is_not_mistaken_for_a_part_of_the_turns_end(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM, eos_token="<|im_end|>")
    [text] = encoded(Reasoning(1, "a", "b", "e"), tokenizer)
    assert halves(text, tokenizer)[1] == "<think>\nb\n</think>\n\ne<|im_end|>"


def test_an_empty_answer_is_set_aside(make_tokenizer: MakeTokenizer) -> None:
    found = encode(
        Reasoning(5, "q", "t", " "), make_tokenizer(CHATML, specials=IM), max_length=1000
    )
    assert isinstance(found, SetAside)
    assert (found.rule, found.line) == (SetAsideRule.EMPTY_ANSWER, 5)


def test_what_is_beyond_the_longest_length_is_cut_at_the_end(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM, eos_token="<|im_end|>")
    [whole] = encoded(ROW, tokenizer)
    found = encode(ROW, tokenizer, max_length=len(whole.tokens) - 1)
    assert not isinstance(found, SetAside)
    assert found[0].cut
    assert found[0].tokens == whole.tokens[:-1]
    prompt = encode(ROW, tokenizer, max_length=whole.learn.index(1))
    assert isinstance(prompt, SetAside)
    assert prompt.rule is SetAsideRule.ANSWER_CUT_AWAY


def chat(*turns: tuple[str, str]) -> Example:
    return Example(7, tuple(Message(role, said, role == "assistant") for role, said in turns))


def test_conversations_are_learnt_by_a_model_whose_prompt_opens_a_thought(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(OPENS, specials=THINK, eos_token="<|im_end|>")
    example = chat(("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two"))

    texts = encoded(example, tokenizer)

    assert [halves(text, tokenizer)[1] for text in texts] == [
        "</think>\n\none<|im_end|>",
        "</think>\n\ntwo<|im_end|>",
    ]
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "one"}]
    asked = prompt_tokens(tokenizer, *history, {"role": "user", "content": "b"})
    assert list(texts[1].tokens[: len(asked)]) == asked
    assert not any(texts[1].learn[: len(asked)])


@pytest.mark.parametrize(
    ("template", "learnt"),
    [
        (CHATML, "<think>\nhm\n</think>\n\ntwo<|im_end|>"),
        (OPENS, "hm\n</think>\n\ntwo<|im_end|>"),
        (DROPS + PROMPT, "<think>\nhm\n</think>\n\ntwo<|im_end|>"),
        (DROPS + OPENING, "hm\n</think>\n\ntwo<|im_end|>"),
        (DROPS_EARLIER, "<think>\nhm\n</think>\n\ntwo<|im_end|>"),
    ],
)
def test_a_thought_in_a_conversation_is_learnt_though_the_template_leaves_it_out(
    make_tokenizer: MakeTokenizer, template: str, learnt: str
) -> None:
    tokenizer = make_tokenizer(template, specials=IM, eos_token="<|im_end|>")
    [text] = encoded(chat(("user", "a"), ("assistant", "<think>\nhm\n</think>\n\ntwo")), tokenizer)
    assert halves(text, tokenizer)[1] == learnt


def test_calls_of_tools_behind_an_opened_thought_are_set_aside(
    make_tokenizer: MakeTokenizer,
) -> None:
    calls = "{% if tools %}{{ tools | tojson }}{% endif %}" + OPENS.replace(
        "m.content +", "m.content + (m.tool_calls | string if m.tool_calls else '') +"
    )
    tool = {"type": "function", "function": {"name": "f"}}
    call = Message("assistant", "", learn=True, tool_calls=(ToolCall("1", "f", {}),))
    example = Example(7, (Message("user", "a", learn=False), call), tools=(tool,))
    found = encode(example, make_tokenizer(calls, specials=IM), max_length=1000)
    assert isinstance(found, SetAside)
    assert found.rule is SetAsideRule.ANSWER_NOT_FOUND

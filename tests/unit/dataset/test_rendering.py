from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from tunesmith.dataset.examples import Example, Message
from tunesmith.dataset.rendering import (
    DEFAULT_TEMPLATE,
    Encoded,
    SetAside,
    SetAsideRule,
    encode,
    ensure_template,
)

MakeTokenizer = Callable[..., Any]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}{% else %}"
    "{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' "
    "+ m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ANSWERS_OTHERWISE = CHATML.replace("assistant\n' }}{% endif", "answerer\n' }}{% endif")
NO_PROMPT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}"
    "{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
SHOUTS = CHATML.replace("m.content", "m.content.upper()")

IM = ("<|im_start|>", "<|im_end|>")


def conversation(*turns: tuple[str, str]) -> Example:
    """Return an example on line 7; a turn is learnt where its role ends in `!`."""
    return Example(
        7, tuple(Message(role.strip("!"), text, role.endswith("!")) for role, text in turns)
    )


def encoded_one(example: Example, tokenizer: Any, max_length: int = 10_000) -> Encoded:
    result = encode(example, tokenizer, max_length=max_length)
    assert not isinstance(result, SetAside), result.reason
    [encoded] = result
    return encoded


def learnt_texts(encoded: Encoded, tokenizer: Any) -> list[str]:
    pairs = zip(encoded.learn, encoded.tokens, strict=True)
    return [
        tokenizer.decode([token for _, token in run])
        for learnt, run in groupby(pairs, key=lambda pair: pair[0])
        if learnt
    ]


def whole_text(encoded: Encoded, tokenizer: Any) -> str:
    return str(tokenizer.decode(list(encoded.tokens)))


ASKED = conversation(("user", "question"), ("assistant!", "answer"))


@pytest.mark.parametrize(
    ("template", "specials", "learnt"),
    [
        pytest.param(CHATML, IM, "answer<|im_end|>", id="ChatML"),
        pytest.param(LLAMA2, (), " answer </s>", id="Llama 2"),
        pytest.param(GEMMA, ("<end_of_turn>",), "answer<end_of_turn>", id="Gemma"),
        pytest.param(QWEN3, IM, "<think>\n\n</think>\n\nanswer<|im_end|>", id="Qwen3"),
        pytest.param(NO_PROMPT, IM, "<|im_start|>assistant\nanswer<|im_end|>", id="no prompt"),
        pytest.param(PLAIN, (), "answer</s>", id="no special token"),
        pytest.param(SHOUTS, IM, "ANSWER<|im_end|>", id="rewritten content"),
        pytest.param(DEFAULT_TEMPLATE, (), "answer</s>", id="default"),
    ],
)
def test_the_answer_and_the_end_of_its_turn_are_learnt_and_nothing_else(
    make_tokenizer: MakeTokenizer, template: str, specials: tuple[str, ...], learnt: str
) -> None:
    tokenizer = make_tokenizer(template, specials=specials, bos_token="<s>", eos_token="</s>")
    encoded = encoded_one(ASKED, tokenizer)
    assert learnt_texts(encoded, tokenizer) == [learnt]
    assert encoded.learnt == sum(encoded.learn)
    assert whole_text(encoded, tokenizer).endswith(learnt)


def test_opea_trained_the_prompt_and_never_the_end_but_here_the_mask_is_exact(
    make_tokenizer: MakeTokenizer,
) -> None:
    # OPEA's collator overwrote the labels: prompt learnt, end token lost where pad is eos.
    tokenizer = make_tokenizer(CHATML, specials=IM, eos_token="<|im_end|>", pad_token="<|im_end|>")
    encoded = encoded_one(ASKED, tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    at_ends = [
        learn for token, learn in zip(encoded.tokens, encoded.learn, strict=True) if token == end
    ]
    assert at_ends == [0, 1], "the user's end of turn is not learnt, the answer's is"
    assert encoded.tokens[-1] == end, "no padding behind the end"
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "question"}], tokenize=False, add_generation_prompt=True
    )
    assert not any(encoded.learn[: len(tokenizer(prompt)["input_ids"])])


def test_each_answer_of_weight_one_is_learnt_and_the_others_are_context(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM, eos_token="<|im_end|>")
    example = conversation(
        ("system", "be kind"),
        ("user", "a"),
        ("assistant!", "one"),
        ("user", "b"),
        ("assistant", "two"),
        ("user", "c"),
        ("assistant!", "three"),
    )
    encoded = encoded_one(example, tokenizer)
    assert learnt_texts(encoded, tokenizer) == ["one<|im_end|>", "three<|im_end|>"]
    assert "two<|im_end|>" in whole_text(encoded, tokenizer)


def test_nothing_is_kept_behind_the_last_learnt_answer(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM)
    example = conversation(
        ("user", "a"), ("assistant!", "one"), ("user", "b"), ("assistant", "two")
    )
    assert whole_text(encoded_one(example, tokenizer), tokenizer).endswith("one<|im_end|>")


def test_where_the_template_rewrites_earlier_turns_each_answer_becomes_a_text_of_its_own(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(QWEN3, specials=IM)
    example = conversation(
        ("user", "a"), ("assistant!", "one"), ("user", "b"), ("assistant!", "two")
    )
    result = encode(example, tokenizer, max_length=1000)
    assert isinstance(result, tuple)
    thought = "<think>\n\n</think>\n\n"
    assert [learnt_texts(item, tokenizer) for item in result] == [
        [f"{thought}one<|im_end|>"],
        [f"{thought}two<|im_end|>"],
    ]
    assert whole_text(result[1], tokenizer).startswith(
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\none<|im_end|>"
    )
    shorter = encode(example, tokenizer, max_length=len(result[0].tokens))
    assert isinstance(shorter, tuple)
    assert [item.cut for item in shorter] == [True], "the second answer's loss is not hidden"


def test_a_prompt_that_the_rendered_answer_does_not_begin_with_sets_the_example_aside(
    make_tokenizer: MakeTokenizer,
) -> None:
    result = encode(ASKED, make_tokenizer(ANSWERS_OTHERWISE, specials=IM), max_length=1000)
    assert isinstance(result, SetAside)
    assert (result.rule, result.line) == (SetAsideRule.ANSWER_NOT_FOUND, 7)
    assert result.reason.startswith("Line 7: ")


def test_a_conversation_that_the_template_refuses_is_set_aside_with_its_words(
    make_tokenizer: MakeTokenizer,
) -> None:
    example = conversation(("system", "s"), ("user", "q"), ("assistant!", "a"))
    result = encode(example, make_tokenizer(GEMMA, bos_token="<s>"), max_length=1000)
    assert isinstance(result, SetAside)
    assert result.rule is SetAsideRule.TEMPLATE_REFUSED
    assert "System role not supported" in result.reason


def test_an_empty_answer_sets_the_example_aside_with_its_place(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM)
    messages = conversation(("user", "q"), ("assistant!", " \n")).messages
    in_lines = encode(Example(7, messages), tokenizer, max_length=1000)
    assert isinstance(in_lines, SetAside)
    assert (in_lines.rule, in_lines.line) == (SetAsideRule.EMPTY_ANSWER, 7)
    assert in_lines.reason.startswith("Line 7: the answer is empty.")
    in_array = encode(Example(1, messages, 53), tokenizer, max_length=1000)
    assert isinstance(in_array, SetAside)
    assert (in_array.line, in_array.element) == (1, 53)
    assert in_array.reason.startswith("Example 53 (line 1): the answer is empty.")
    context = conversation(("user", "q"), ("assistant", ""), ("user", "r"), ("assistant!", "a"))
    assert encoded_one(context, tokenizer).learnt, "only an answer that is to be learnt counts"


def test_a_long_answer_is_cut_at_its_end_and_said_to_be(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM)
    whole = encoded_one(ASKED, tokenizer)
    assert not whole.cut
    assert not encoded_one(ASKED, tokenizer, max_length=len(whole.tokens)).cut
    shorter = encoded_one(ASKED, tokenizer, max_length=len(whole.tokens) - 2)
    assert shorter.cut
    assert learnt_texts(shorter, tokenizer) == ["answe"]
    assert shorter.tokens == whole.tokens[:-2]


def test_an_answer_that_is_cut_away_entirely_sets_the_example_aside(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM)
    whole = encoded_one(ASKED, tokenizer)
    prompt = len(whole.tokens) - whole.learnt
    assert encoded_one(ASKED, tokenizer, max_length=prompt + 1).learnt == 1
    result = encode(ASKED, tokenizer, max_length=prompt)
    assert isinstance(result, SetAside)
    assert result.rule is SetAsideRule.ANSWER_CUT_AWAY
    assert "Line 7" in result.reason
    assert "max_length" in result.reason


def test_a_token_that_begins_in_the_prompt_and_ends_in_the_answer_is_not_learnt(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM)
    # The prompt's line break and the answer's become one token, "\n\n".
    encoded = encoded_one(conversation(("user", "q"), ("assistant!", "\nyes")), tokenizer)
    assert "assistant\n\nyes" in whole_text(encoded, tokenizer)
    assert learnt_texts(encoded, tokenizer) == ["yes<|im_end|>"]


def test_special_tokens_inside_an_answer_do_not_end_it(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(CHATML, specials=IM)
    encoded = encoded_one(
        conversation(("user", "q"), ("assistant!", "write <|im_end|> here")), tokenizer
    )
    assert learnt_texts(encoded, tokenizer) == ["write <|im_end|> here<|im_end|>"]


@pytest.mark.parametrize("answer", ["e", "t", "im", "assistant", "think", "|"])
@pytest.mark.parametrize(
    "template", [CHATML, QWEN3, NO_PROMPT], ids=["ChatML", "Qwen3", "no prompt"]
)
def test_an_answer_that_also_occurs_in_the_template_is_not_mistaken_for_it(
    make_tokenizer: MakeTokenizer, template: str, answer: str
) -> None:
    tokenizer = make_tokenizer(template, specials=IM, eos_token="<|im_end|>")
    encoded = encoded_one(conversation(("user", "q"), ("assistant!", f"{answer}.")), tokenizer)
    assert whole_text(encoded, tokenizer).endswith(f"{answer}.<|im_end|>")
    bare = encoded_one(conversation(("user", "q"), ("assistant!", answer)), tokenizer)
    assert whole_text(bare, tokenizer).endswith(f"{answer}<|im_end|>")
    assert learnt_texts(bare, tokenizer)[-1].count("<|im_end|>") == 1


def test_a_tokenizer_without_any_end_token_learns_the_answer_alone(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(DEFAULT_TEMPLATE)
    encoded = encoded_one(ASKED, tokenizer)
    assert whole_text(encoded, tokenizer) == "### User:\nquestion\n\n### Assistant:\nanswer"
    assert learnt_texts(encoded, tokenizer) == ["answer"]


def test_a_tokenizer_without_a_template_gets_the_default_one_and_another_keeps_its_own(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(None, bos_token="<s>", eos_token="</s>")
    assert ensure_template(tokenizer)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == "<s>### User:\nq\n\n### Assistant:\na</s>\n\n### Assistant:\n"
    assert not ensure_template(tokenizer)
    other = make_tokenizer(CHATML)
    assert not ensure_template(other)
    assert other.chat_template == CHATML


def test_templates_write_their_own_beginning_of_text_and_no_second_one_is_added(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(GEMMA, bos_token="<s>", eos_token="</s>")
    tokens = list(encoded_one(ASKED, tokenizer).tokens)
    assert tokens.count(tokenizer.bos_token_id) == 1
    assert tokens[0] == tokenizer.bos_token_id


def test_smollm2_learns_its_answer_and_end_of_turn(smollm2: Any) -> None:
    encoded = encoded_one(
        conversation(("user", "Größe?\n"), ("assistant!", "Groß, naïve 🙂.")), smollm2
    )
    assert learnt_texts(encoded, smollm2) == ["Groß, naïve 🙂.<|im_end|>"]
    assert whole_text(encoded, smollm2).startswith("<|im_start|>system\nYou are a helpful AI")

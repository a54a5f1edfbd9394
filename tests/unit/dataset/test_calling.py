"""Calls of tools are found in what a model says, whole or in pieces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.tiny import save_tiny_llama
from tunesmith.dataset.calling import CallMarks, CallReader
from tunesmith.dataset.tokenizer import FolderTokenizer

HERMES = CallMarks("<tool_call>")
BARE = CallMarks("")
CALL = '{"name": "weather", "arguments": {"city": "Zürich"}}'

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def read(marks: CallMarks, pieces: list[str]) -> tuple[str, str, list[tuple[str, str]]]:
    """What is told while the answer comes, what is told at its end, and the calls."""
    reader = CallReader(marks, ["weather", "time"])
    early = "".join(reader.add(piece) for piece in pieces)
    rest, calls = reader.end()
    return early, rest, calls


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_behind_words_are_kept_from_the_words(size: int) -> None:
    text = f"Let me see.<tool_call>\n{CALL}\n</tool_call>\n<tool_call>{CALL}</tool_call>"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]

    early, rest, calls = read(HERMES, pieces)

    assert (early, rest) == ("Let me see.", "")
    assert calls == [("weather", '{"city": "Zürich"}')] * 2


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_template_without_marks_calls_at_the_beginning_alone(size: int) -> None:
    called = '{"name": "time", "parameters": {}}'
    said = f"A call looks like {called}"
    pieces = {
        text: [text[at : at + size] for at in range(0, len(text), size)] for text in (called, said)
    }

    assert read(BARE, pieces[called]) == ("", "", [("time", "{}")])
    assert "".join(read(BARE, pieces[said])[:2]) == said
    assert read(BARE, pieces[said])[2] == []


@pytest.mark.parametrize(
    "text",
    [
        "No tool is needed.",
        "a < b and <tool_",
        '<tool_call>{"name": "weather", "argu',
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '{"city": "Oslo"}',
        "",
    ],
)
def test_what_is_no_call_is_said_as_it_stands(text: str) -> None:
    for marks in (HERMES, BARE):
        early, rest, calls = read(marks, list(text))

        assert early + rest == text
        assert calls == []


IM_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
LISTED = "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
# As Hermes' and Qwen2.5's: each call stands in marks of its own, on lines of their own.
QWEN = (
    LISTED + "{% for m in messages %}{{ '<|im_start|>' + m.role }}"
    "{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    '{% for c in m.tool_calls or [] %}{{ \'\n<tool_call>\n{"name": "\' + c.function.name }}'
    "{{ '\", \"arguments\": ' + c.function.arguments | tojson + '}\n</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}" + IM_PROMPT
)
# As Qwen3's: the last answer begins with its thought, which may be empty.
THINKING = QWEN.replace(
    "{% if m.content %}",
    "{% if m.role == 'assistant' and loop.last %}{{ '\n<think>\n\n</think>\n' }}{% endif %}"
    "{% if m.content %}",
)
# As those that think in any case: the prompt opens the thought.
OPENED = QWEN.replace(IM_PROMPT, IM_PROMPT.replace("assistant\n", "assistant\n<think>\n"))
# As SmolLM2 is asked to call: all calls in one list between marks.
LIST = (
    LISTED + "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% if m.tool_calls %}{{ '<tool_call>[' }}{% for c in m.tool_calls %}"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}"
    "{{ '' if loop.last else ', ' }}{% endfor %}{{ ']</tool_call>' }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}" + IM_PROMPT
)
# As Llama 3.1's: a bare object, with another name for what is given.
LLAMA = (
    LISTED + "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n\n' + m.content }}"
    '{% for c in m.tool_calls or [] %}{{ \'{"name": "\' + c.function.name }}'
    "{{ '\", \"parameters\": ' + c.function.arguments | tojson + '}' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}" + IM_PROMPT
)
WRITTEN = {"qwen": QWEN, "thinking": THINKING, "opened": OPENED, "list": LIST, "llama": LLAMA}
MARKS = {name: BARE if name == "llama" else HERMES for name in WRITTEN}


@pytest.fixture
def with_template(tmp_path: Path) -> Callable[[str], FolderTokenizer]:
    save_tiny_llama(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())

    def make(template: str) -> FolderTokenizer:
        (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
        changed = config | {"chat_template": template}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(changed))
        return FolderTokenizer(tmp_path)

    return make


@pytest.mark.parametrize("name", WRITTEN)
def test_calls_are_found_as_the_template_itself_writes_them(
    with_template: Callable[[str], FolderTokenizer], name: str
) -> None:
    tokenizer = with_template(WRITTEN[name])
    calls = [("weather", {"city": "Zürich"}), ("time", {})]
    asked = {"role": "user", "content": "How is it?"}
    called = [{"type": "function", "function": {"name": n, "arguments": g}} for n, g in calls]

    def written(turns: list[dict[str, Any]]) -> str:
        return tokenizer.apply_chat_template(
            turns, tools=[], tokenize=False, add_generation_prompt=False
        )

    answer = {
        "role": "assistant",
        "content": "",
        "tool_calls": called[: 1 if name == "llama" else 2],
    }
    said = written([asked, answer]).removeprefix(written([asked]))
    said = said.removeprefix("<|im_start|>assistant").removesuffix("<|im_end|>\n").strip()

    marks = CallMarks.of(tokenizer)
    assert marks == MARKS[name]
    early, rest, found = read(marks, list(said))

    wanted = [(n, json.dumps(g, ensure_ascii=False)) for n, g in calls]
    assert found == wanted[: len(answer["tool_calls"])]
    assert (early.strip(), rest) == ("<think>\n\n</think>" if name == "thinking" else "", "")


def test_a_call_behind_a_thought_is_found_and_the_thought_is_said(
    with_template: Callable[[str], FolderTokenizer],
) -> None:
    marks = CallMarks.of(with_template(THINKING))
    assert marks is not None

    early, rest, calls = read(
        marks, list(f"<think>\nI look.\n</think>\n\n<tool_call>\n{CALL}\n</tool_call>")
    )

    assert (early, rest) == ("<think>\nI look.\n</think>\n\n", "")
    assert calls == [("weather", '{"city": "Zürich"}')]


@pytest.mark.parametrize("begin", ["<tool_call>[", "<tool_call>\n[\n", "<tool_call>"])
def test_a_list_of_calls_may_begin_on_a_line_of_its_own_or_not_at_all(begin: str) -> None:
    end = "]" if "[" in begin else ""

    assert read(HERMES, [f"{begin}{CALL}, {CALL}{end}</tool_call>"]) == (
        "",
        "",
        [("weather", '{"city": "Zürich"}')] * 2,
    )


def test_what_is_given_may_be_written_as_text() -> None:
    text = json.dumps({"name": "weather", "arguments": json.dumps({"city": "Oslo"})})
    wrong = json.dumps({"name": "weather", "arguments": "Oslo"})

    assert read(HERMES, [f"<tool_call>{text}</tool_call>"])[2] == [("weather", '{"city": "Oslo"}')]
    assert read(HERMES, [f"<tool_call>{wrong}</tool_call>"])[2] == []


def test_the_template_shows_how_calls_are_written(
    with_template: Callable[[str], FolderTokenizer],
) -> None:
    def marks(template: str) -> CallMarks | None:
        return CallMarks.of(with_template(template))

    assert marks(TEMPLATE) == HERMES
    assert marks(TEMPLATE.replace("<tool_call>", "").replace("</tool_call>", "")) == BARE
    assert marks("{% for m in messages %}{{ m.content }}</s>{% endfor %}") is None
    assert marks("{{ raise_exception('no tools here') }}") is None

"""Calls of tools are found in what a model says, whole or in pieces."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_the_template_shows_how_calls_are_written(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())

    def marks(template: str) -> CallMarks | None:
        (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
        changed = config | {"chat_template": template}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(changed))
        return CallMarks.of(FolderTokenizer(tmp_path))

    assert marks(TEMPLATE) == HERMES
    assert marks(TEMPLATE.replace("<tool_call>", "").replace("</tool_call>", "")) == BARE
    assert marks("{% for m in messages %}{{ m.content }}</s>{% endfor %}") is None
    assert marks("{{ raise_exception('no tools here') }}") is None

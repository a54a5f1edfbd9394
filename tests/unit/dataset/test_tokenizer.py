"""Our own tokenizer gives what transformers' gives: id for id and character for character."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from models.tiny import byte_tokenizer
from tunesmith.dataset.counting import tokens_in
from tunesmith.dataset.examples import Example, Message, ToolCall
from tunesmith.dataset.rendering import Rendered, encode, ensure_template, learnt_tokens
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.errors import TokenizerMissingError

TURNS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi"}],
    [
        {"role": "system", "content": "Be <|im_end|> brief."},
        {"role": "user", "content": "  Größe?\n\n"},
        {"role": "assistant", "content": "1,80 m 🙂 "},
        {"role": "user", "content": "und\tdann"},
    ],
]

TEMPLATES = {
    "filters": "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ tools | tojson }}",
    "tojson by place": "{{ messages | tojson(true, 4) }}",
    "blanks": "  {% if true %}\n  x\n  {% endif %}\n{{ bos_token }}|{{ eos_token }}{{ unk_token }}",
    "generation": "{% for m in messages %}{% generation %}{% set x = 1 %}{{ m.content }}"
    "{% endgeneration %}{{ x is defined }}{% endfor %}",
    "loops": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.role }}"
    "{% endfor %}",
    "namespace": "{% set n = namespace(a=0) %}{% for m in messages %}{% set n.a = n.a + 1 %}"
    "{% endfor %}{{ n.a }}{{ strftime_now('%Y') }}",
    "prompt": "{{ messages[0].content | trim }}{% if add_generation_prompt %}>{% endif %}",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def smollm2_folder(smollm2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    smollm2.save_pretrained(folder)
    return folder


@pytest.fixture(params=["tiny", "smollm2_folder"])
def both(request: pytest.FixtureRequest) -> tuple[FolderTokenizer, Any]:
    """Our tokenizer and transformers' of the same folder."""
    folder = request.getfixturevalue(request.param)
    return FolderTokenizer(folder), AutoTokenizer.from_pretrained(folder)


def rendered(tokenizer: Any, turns: list[dict[str, Any]], *, tools: Any, prompt: bool) -> str:
    text: str = tokenizer.apply_chat_template(
        turns, tools=tools, tokenize=False, add_generation_prompt=prompt
    )
    return text


def test_special_tokens_are_the_same(both: tuple[FolderTokenizer, Any]) -> None:
    ours, theirs = both

    assert ours.eos_token == theirs.eos_token
    assert set(ours.all_special_tokens) == set(theirs.all_special_tokens)
    assert ours.chat_template == theirs.chat_template


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("prompt", [False, True])
def test_conversations_are_written_alike(
    both: tuple[FolderTokenizer, Any], turns: list[dict[str, Any]], prompt: bool
) -> None:
    ours, theirs = both

    assert rendered(ours, turns, tools=None, prompt=prompt) == rendered(
        theirs, turns, tools=None, prompt=prompt
    )


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_what_templates_may_use_works_alike(
    smollm2_folder: Path, smollm2: Any, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = FolderTokenizer(smollm2_folder)
    ours.chat_template = template
    monkeypatch.setattr(smollm2, "chat_template", template)
    tools = [{"type": "function", "function": {"name": "größe", "parameters": {"a": None}}}]

    for turns in TURNS:
        assert rendered(ours, turns, tools=tools, prompt=True) == rendered(
            smollm2, turns, tools=tools, prompt=True
        )


@given(text=st.text(max_size=60))
def test_any_text_has_the_same_ids_and_offsets(tiny: Path, smollm2_folder: Path, text: str) -> None:
    for ours, theirs in (pair(tiny), pair(smollm2_folder)):
        wrapped = f"<|im_start|>user\n{text}<|im_end|>\n"
        want = theirs(wrapped, add_special_tokens=False, return_offsets_mapping=True)

        found = ours(wrapped, add_special_tokens=False, return_offsets_mapping=True)
        (batched,) = ours.encode([wrapped])

        assert found["input_ids"] == batched.ids == want["input_ids"]
        assert found["offset_mapping"] == batched.offsets == want["offset_mapping"]


_PAIRS: dict[Path, tuple[FolderTokenizer, Any]] = {}


def pair(folder: Path) -> tuple[FolderTokenizer, Any]:
    if folder not in _PAIRS:
        _PAIRS[folder] = FolderTokenizer(folder), AutoTokenizer.from_pretrained(folder)
    return _PAIRS[folder]


def test_examples_are_encoded_and_masked_alike(both: tuple[FolderTokenizer, Any]) -> None:
    ours, theirs = both
    turns = (
        Message("user", "2+2?", learn=False),
        Message("assistant", "4", learn=True),
        Message("user", "Say it in words.", learn=False),
        Message("assistant", "Four, i.e. vier.", learn=True),
    )
    for length in (1000, 40):
        example = Example(1, turns)
        assert encode(example, ours, max_length=length) == encode(
            example, theirs, max_length=length
        )


def test_tools_choose_the_template_for_tools(tiny: Path, tmp_path: Path) -> None:
    for path in tiny.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools!{{ tools }}")
    ours, theirs = FolderTokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)

    for tools in (None, [{"type": "function"}]):
        assert rendered(ours, TURNS[0], tools=tools, prompt=False) == rendered(
            theirs, TURNS[0], tools=tools, prompt=False
        )


def test_a_template_in_the_config_serves_where_there_is_no_file(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny / "tokenizer.json").read_bytes())
    config = {"chat_template": "{{ messages[0].content }}", "eos_token": {"content": "</s>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = FolderTokenizer(tmp_path)

    assert rendered(ours, TURNS[0], tools=None, prompt=False) == "Hi"
    assert ours.eos_token == "</s>"
    # A special token that the vocabulary lacks is one token all the same.
    assert len(ours.encode(["</s>"])[0]) == 1


def test_a_model_without_a_template_gets_the_default_one_also_in_another_process(
    tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny / "tokenizer.json").read_bytes())
    ours = FolderTokenizer(tmp_path)
    assert ensure_template(ours)

    again = pickle.loads(pickle.dumps(ours))

    assert rendered(again, TURNS[0], tools=None, prompt=True) == "### User:\nHi\n\n### Assistant:\n"


def test_the_context_length_is_read_from_the_config(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny / "tokenizer.json").read_bytes())
    assert FolderTokenizer(tmp_path).context_length is None
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    assert FolderTokenizer(tmp_path).context_length == 512


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_folder_without_a_tokenizer_is_refused_by_the_files_name(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)

    with pytest.raises(TokenizerMissingError, match=r"tokenizer\.json' cannot be read"):
        FolderTokenizer(tmp_path)


def test_a_template_cannot_reach_beyond_the_sandbox(tiny: Path) -> None:
    ours = FolderTokenizer(tiny)
    ours.chat_template = "{{ messages.__class__.__mro__ }}{{ ''.__class__ }}"
    with pytest.raises(Exception, match="unsafe"):
        rendered(ours, TURNS[0], tools=None, prompt=False)


def test_tool_calls_are_written_alike(smollm2_folder: Path, smollm2: Any) -> None:
    template = (
        "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    )
    call = ToolCall("call00001", "weather", {"city": "Köln"})
    turns = (
        Message("user", "Warm?", learn=False),
        Message("assistant", "", learn=True, tool_calls=(call,)),
    )
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    example = Example(1, turns, 0, (tool,))
    ours = FolderTokenizer(smollm2_folder)
    theirs = AutoTokenizer.from_pretrained(smollm2_folder)
    ours.chat_template = theirs.chat_template = template

    found = encode(example, ours, max_length=500)

    assert isinstance(found, tuple)
    assert found == encode(example, theirs, max_length=500)


@given(text=st.text(alphabet="ab \nß🙂é<|im_end|>", min_size=1, max_size=30), data=st.data())
def test_the_quick_search_for_a_spans_tokens_finds_what_the_offsets_tell(
    tiny: Path, smollm2_folder: Path, text: str, data: st.DataObject
) -> None:
    begin = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(begin + 1, len(text)))
    for ours, _ in (pair(tiny), pair(smollm2_folder)):
        (encoding,) = ours.encode([text])
        (want,) = learnt_tokens(encoding.offsets, [(begin, end)])

        (counted,) = ours.count([Rendered(text, ((begin, end),))])

        assert encoding.ids[tokens_in(encoding, (begin, end))] == encoding.ids[want]
        assert counted[0] == len(encoding)
        assert encoding.ids[counted[1][0]] == encoding.ids[want]

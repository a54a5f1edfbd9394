"""The Modelfile says in Go's templates what the model's own template says in Jinja."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.tiny import byte_tokenizer
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.inference.modelfile import form_of, write_modelfile

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_A_DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    + CHATML
)
SYSTEM_WITHIN_THE_USERS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
    "{% if loop.index0 == 1 %}{{ messages[0]['content'] }}\n{% endif %}{{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}<|im_end|>{% endif %}{% endfor %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}"


def tokenizer(folder: Path, template: str) -> FolderTokenizer:
    saved = byte_tokenizer()
    saved.chat_template = template
    saved.save_pretrained(folder)
    return FolderTokenizer(folder)


def test_chatml_is_written_turn_by_turn(tmp_path: Path) -> None:
    text = write_modelfile("model.gguf", tokenizer(tmp_path, CHATML), ends={257})
    turn = (
        '{{{{ if eq .Role "{role}" }}}}<|im_start|>{role}\n{{{{ .Content }}}}<|im_end|>\n'
        "{{{{ end }}}}"
    )
    turns = "".join(turn.format(role=role) for role in ("system", "user", "assistant"))
    assert text == (
        "FROM ./model.gguf\n"
        f'TEMPLATE """{{{{ range .Messages }}}}{turns}{{{{ end }}}}<|im_start|>assistant\n"""\n'
        'PARAMETER stop "<|im_end|>"\n'
    )


def test_what_is_said_without_a_system_message_is_said_there_too(tmp_path: Path) -> None:
    form = form_of(tokenizer(tmp_path, WITH_A_DEFAULT))
    assert form is not None
    assert form.unasked == "<|im_start|>system\nBe kind.<|im_end|>\n"
    text = write_modelfile("m.gguf", tokenizer(tmp_path, WITH_A_DEFAULT), ends=())
    assert "{{ if not .System }}<|im_start|>system\nBe kind.<|im_end|>\n{{ end }}" in text


@pytest.mark.parametrize("template", [SYSTEM_WITHIN_THE_USERS, NO_SYSTEM, "{{ '{{' }}" + CHATML])
def test_turns_that_are_not_written_alike_get_no_template(tmp_path: Path, template: str) -> None:
    text = write_modelfile("m.gguf", tokenizer(tmp_path, template), ends={257})
    assert "TEMPLATE" not in text
    assert "# This model's conversations" in text
    assert 'PARAMETER stop "<|im_end|>"' in text

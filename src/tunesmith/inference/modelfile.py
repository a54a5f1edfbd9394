"""The Modelfile by which Ollama makes a model of a GGUF file.

Ollama reads no Jinja: of a GGUF file's own template it takes only those that it knows by heart. So
the conversation's form is found by rendering it, and written as a Go template; where it is not the
same for each turn, no template is written, and a comment says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith.dataset.rendering import ensure_template
from tunesmith.dataset.tokenizer import FolderTokenizer

_ROLES = ("system", "user", "assistant")
_MARK = "\N{BULLET}words\N{BULLET}"

_NO_TEMPLATE = (
    "# This model's conversations have no form that Ollama's templates can be given. llama.cpp's\n"
    "# own server writes them, by the template in the GGUF file.\n"
)


@dataclass(frozen=True)
class Form:
    """How a chat template writes a conversation whose turns all look alike."""

    around: dict[str, tuple[str, str]]
    """What is written before and behind each role's words."""
    unasked: str
    """What is written first where no system message is given."""
    asks: str
    """What is written last, for the model to answer."""


def write_modelfile(file: str, tokenizer: FolderTokenizer, *, ends: Iterable[int]) -> str:
    """Return the Modelfile for the GGUF `file` beside it; `ends` are what ends answers."""
    form = form_of(tokenizer)
    template = None if form is None else _go(form)
    stops = [tokenizer.backend.id_to_token(each) for each in sorted(ends)]
    return "".join(
        (
            f"FROM ./{file}\n",
            _NO_TEMPLATE if template is None else f'TEMPLATE """{template}"""\n',
            *(f'PARAMETER stop "{stop}"\n' for stop in stops if stop and '"' not in stop),
        )
    )


def form_of(tokenizer: FolderTokenizer) -> Form | None:
    """Return the form of conversations; `None` where turns are not all written alike."""
    ensure_template(tokenizer)
    try:
        form = _found(tokenizer)
        same = all(
            _written(tokenizer, roles, prompt=True) == _by(form, roles)
            for roles in (
                ("user",),
                ("system", "user"),
                ("user", "assistant", "user"),
                ("system", "user", "assistant", "user", "assistant", "user"),
            )
        )
    # A template is the model's own program: it may raise anything, mostly on purpose.
    except Exception:  # noqa: BLE001
        return None
    return form if same else None


def _found(tokenizer: FolderTokenizer) -> Form:
    whole = _written(tokenizer, _ROLES, prompt=False)
    asked = _written(tokenizer, ("system", "user"), prompt=False)
    told = _written(tokenizer, ("system",), prompt=False)
    alone = _written(tokenizer, ("user",), prompt=False)
    user = asked.removeprefix(told)
    around = {
        "system": _around(told, "system"),
        "user": _around(user, "user"),
        "assistant": _around(whole.removeprefix(asked), "assistant"),
    }
    asks = _written(tokenizer, ("system", "user"), prompt=True).removeprefix(asked)
    return Form(around, alone.removesuffix(user), asks)


def _around(text: str, role: str) -> tuple[str, str]:
    before, found, behind = text.partition(_words(role))
    if not found:
        raise ValueError(f"the words of {role} are not written")
    return before, behind


def _words(role: str) -> str:
    return f"{_MARK}{role}"


def _written(tokenizer: FolderTokenizer, roles: Iterable[str], *, prompt: bool) -> str:
    turns = [{"role": role, "content": _words(role)} for role in roles]
    return tokenizer.apply_chat_template(
        turns, tools=None, tokenize=False, add_generation_prompt=prompt
    )


def _by(form: Form, roles: Iterable[str]) -> str:
    wrapped = [_words(role).join(form.around[role]) for role in roles]
    first = "" if "system" in roles else form.unasked
    return "".join((first, *wrapped, form.asks))


def _go(form: Form) -> str | None:
    """Return the form as a Go template; `None` where its text would be read as one."""
    texts = [form.unasked, form.asks, *(part for pair in form.around.values() for part in pair)]
    if any("{{" in text or '"""' in text for text in texts):
        return None
    unasked = f"{{{{ if not .System }}}}{form.unasked}{{{{ end }}}}" if form.unasked else ""
    turns = "".join(
        f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{behind}{{{{ end }}}}'
        for role, (before, behind) in form.around.items()
    )
    return f"{unasked}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{form.asks}"

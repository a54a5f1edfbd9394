"""What a model is asked, token by token as it was in training, and which tokens end its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.dataset.examples import Message
from tunesmith.dataset.rendering import ensure_template
from tunesmith.dataset.texts import whole_text
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.dataset.turns import said_in, turn_of
from tunesmith.domain.errors import InvalidRequestError

_ASKED = {"role": "user", "content": "question"}
_ANSWER = "answer"


def chat_prompt(
    messages: Sequence[Message], tokenizer: FolderTokenizer, *, tools: Sequence[Any] = ()
) -> list[int]:
    """Return the tokens of a conversation up to the answer that is to come.

    Raises `InvalidRequestError` where the model's template does not take it.
    """
    ensure_template(tokenizer)
    turns = [turn_of(message) for message in messages]
    try:
        text = _written(turns, tokenizer, tools=list(tools) or None, prompt=True)
    # A template is the model's own program: it may raise anything, mostly on purpose.
    except Exception as error:
        raise InvalidRequestError(
            f"The model's chat template does not take this conversation: {error}.",
            param="messages",
        ) from error
    return list(tokenizer.encode([text])[0].ids)


def text_prompt(text: str, tokenizer: FolderTokenizer) -> list[int]:
    """Return the tokens of a text that is to be continued, begun as texts begin in training."""
    whole = whole_text(text, tokenizer).removesuffix(tokenizer.eos_token or "")
    return list(tokenizer.encode([whole])[0].ids)


def end_tokens(tokenizer: FolderTokenizer) -> frozenset[int]:
    """Return the ids of the tokens that end an answer: of texts, and of the template's turns."""
    ensure_template(tokenizer)
    written = {tokenizer.eos_token or "", _end_of_turn(tokenizer)}
    found = (tokenizer.backend.token_to_id(token) for token in written if token)
    return frozenset(token for token in found if token is not None)


def _end_of_turn(tokenizer: FolderTokenizer) -> str:
    """Return the special token by which the template ends an answer; empty where there is none."""
    try:
        asked = _written([_ASKED], tokenizer, tools=None, prompt=False)
        answer = {"role": "assistant", "content": _ANSWER}
        behind = _written([_ASKED, answer], tokenizer, tools=None, prompt=False)
    except Exception:  # noqa: BLE001  see `chat_prompt`; such a template has no say in it
        return ""
    _, end = said_in(behind.removeprefix(asked), _ANSWER, tokenizer=tokenizer)
    return next((token for token in tokenizer.all_special_tokens if end.endswith(token)), "")


def _written(
    turns: list[dict[str, Any]],
    tokenizer: FolderTokenizer,
    *,
    tools: list[Any] | None,
    prompt: bool,
) -> str:
    return str(
        tokenizer.apply_chat_template(
            turns, tools=tools, tokenize=False, add_generation_prompt=prompt
        )
    )

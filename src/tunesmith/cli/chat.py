"""A conversation with a model, in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from tunesmith.cli.service import Service

if TYPE_CHECKING:
    from openai import OpenAI

_RETRIES = 2
"""How often a service is asked again that is busy or still starts the model."""


class Conversation:
    """What was said so far, and how answers are made."""

    def __init__(self, service: Service, model: str, **sampling: float | None) -> None:
        """Begin with nothing said; of `sampling`, what is `None` is left to the service."""
        self.service = service
        self._model = model
        self._sampling: dict[str, Any] = {k: v for k, v in sampling.items() if v is not None}
        self._messages: list[Any] = []

    def say(self, role: str, text: str) -> None:
        """Add what somebody says."""
        self._messages.append({"role": role, "content": text})

    def ask(self, text: str) -> None:
        """Ask, and print the answer as it is made; with `--json`, whole as the API gives it."""
        self.say("user", text)
        try:
            answer = self._whole() if self.service.json else self._streamed()
        except BaseException:
            # What was not answered is not a part of the conversation.
            self._messages.pop()
            raise
        self.say("assistant", answer)

    def _whole(self) -> str:
        made = self._client.chat.completions.create(
            model=self._model, messages=self._messages, **self._sampling
        )
        self.service.show_line(made.to_dict(), "")
        return made.choices[0].message.content or ""

    def _streamed(self) -> str:
        pieces: list[str] = []
        stream = self._client.chat.completions.create(
            model=self._model, messages=self._messages, stream=True, **self._sampling
        )
        try:
            with stream:
                for chunk in stream:
                    piece = chunk.choices[0].delta.content if chunk.choices else None
                    pieces.append(piece or "")
                    typer.echo(pieces[-1], nl=False)
                    sys.stdout.flush()
        finally:
            typer.echo()
        return "".join(pieces)

    @property
    def _client(self) -> OpenAI:
        return self.service.client.with_options(max_retries=_RETRIES)


def hold(conversation: Conversation, message: str | None) -> None:
    """Ask `message` alone; or, where it is `None`, each line of standard input until its end.

    On a terminal, Ctrl-C ends the answer that is being made, and at the prompt the conversation.
    """
    if message is not None:
        conversation.ask(message)
        return
    live = sys.stdin.isatty()
    if live:
        conversation.service.tell("Ctrl-C ends an answer, Ctrl-D the conversation.")
    while True:
        try:
            line = input("> " if live else "")
        except EOFError:
            return
        if not line.strip():
            continue
        try:
            conversation.ask(line)
        except KeyboardInterrupt:
            if not live:
                raise

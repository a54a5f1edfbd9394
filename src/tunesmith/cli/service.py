"""The door to a running service: the official client, its errors as lines, and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property, wraps
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from tunesmith.cli.signature import filled
from tunesmith.domain.errors import TunesmithError

if TYPE_CHECKING:
    import openai

DEFAULT_URL = "http://127.0.0.1:8015/v1"
"""Where `tunesmith serve` answers unless it is told otherwise."""

FAILED = 1
"""Exit code where the service refused a request, or something failed."""
NO_SERVICE = 3
"""Exit code where no service answers."""
JOB_FAILED = 4
"""Exit code where a job or an estimate was waited for, and failed or was cancelled."""
INTERRUPTED = 130
"""Exit code behind Ctrl-C."""

Object = dict[str, Any]
"""An object of the API."""


def part(name: str) -> str:
    """Return an id or a name as one part of a path."""
    return quote(name, safe=":")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class NoServiceError(TunesmithError):
    """No service answers."""


class Service:
    """A running service, and how its answers are to be shown."""

    def __init__(self, url: str, api_key: str | None, *, json: bool) -> None:
        """Take its base URL, with or without `/v1`, and a key where it asks for one."""
        self.url = url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")
        self.json = json
        # The client must have one, and a service without keys passes over it.
        self._api_key = api_key or "unused"

    @cached_property
    def client(self) -> openai.OpenAI:
        """Return the official client, which repeats nothing by itself."""
        import openai

        return openai.OpenAI(
            base_url=self.url,
            api_key=self._api_key,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=self.through_proxy),
        )

    @property
    def through_proxy(self) -> bool:
        """Whether a proxy of the environment may carry requests: none knows of this machine."""
        host = urlsplit(self.url).hostname or ""
        return host != "localhost" and not _is_loopback(host)

    def get(self, path: str, **query: object) -> Object:
        """Return what `path` answers; a part of the query that is `None` is left out."""
        given = {key: value for key, value in query.items() if value is not None}
        answer = self.client.get(path, cast_to=object, options={"params": given})
        return self._checked(answer)

    def post(self, path: str, body: Object | None = None) -> Object:
        """Return what `path` answers to `body`."""
        return self._checked(self.client.post(path, cast_to=object, body=body))

    def delete(self, path: str) -> Object:
        """Return what the deletion of `path` answers."""
        return self._checked(self.client.delete(path, cast_to=object))

    def download(self, path: str, target: Path, *, told: Callable[[int], None]) -> None:
        """Write the content at `path` to `target`, which appears once it is whole.

        `told` hears of each piece, by its bytes. Raises `TunesmithError` where a file cannot be
        written.
        """
        import httpx

        part = target.with_name(f".{target.name}.part")
        headers = {"Authorization": f"Bearer {self._api_key}"}
        try:
            with httpx.stream(
                "GET", self.url + path, headers=headers, timeout=60, trust_env=self.through_proxy
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise TunesmithError(_told(answer))
                with part.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
                        told(len(piece))
            part.replace(target)
        except httpx.TransportError as error:
            raise NoServiceError(f"{self.url} ended the download: {error}.") from None
        except OSError as error:
            raise TunesmithError(f"'{target}' cannot be written: {error.strerror}.") from None
        finally:
            part.unlink(missing_ok=True)

    def show(self, answer: Object, text: str) -> None:
        """Print `answer` as JSON if that is asked for, or else `text`."""
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=2) if self.json else text)

    def show_line(self, answer: Object, text: str) -> None:
        """Print one of several answers: with `--json` each is one line."""
        typer.echo(json.dumps(answer, ensure_ascii=False) if self.json else text)

    def tell(self, text: str) -> None:
        """Print a line for the person, beside what a program reads."""
        typer.echo(text, err=True)

    def _checked(self, answer: object) -> Object:
        if not isinstance(answer, dict):
            raise NoServiceError(f"What answers at {self.url} is no Tunesmith.")
        return answer


Url = Annotated[
    str, typer.Option("--url", envvar="OPENAI_BASE_URL", help="Base URL of the service.")
]
"""The option `--url`."""
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="OPENAI_API_KEY", show_envvar=True, help="Key, if it asks for one."
    ),
]
"""The option `--api-key`."""
Json = Annotated[bool, typer.Option("--json", help="Print what the API answers, as JSON.")]
"""The option `--json`."""


def _open(*, url: Url = DEFAULT_URL, api_key: ApiKey = None, json: Json = False) -> Service:
    return Service(url, api_key, json=json)


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Fill the command's parameter `service`, and end it with a line and a code where that fails.

    It then has the options `--url`, `--api-key` and `--json`.
    """

    @wraps(command)
    def ended_well(**given: object) -> None:
        try:
            command(**given)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except NoServiceError as error:
            _end(error.message, code=NO_SERVICE)
        except TunesmithError as error:
            _end(error.message, code=FAILED)
        except Exception as error:  # noqa: BLE001  the client's errors, whose import takes a second
            _end(*_explained(error, given["service"]))

    return filled("service", _open)(ended_well)


def _end(message: str, code: int) -> None:
    typer.echo(f"tunesmith: {message}", err=True)
    raise typer.Exit(code)


def _explained(error: Exception, service: object) -> tuple[str, int]:
    """Return a line and an exit code for an error of the client's; others are raised again."""
    import openai

    url = service.url if isinstance(service, Service) else ""
    if isinstance(error, openai.APITimeoutError):
        return f"{url} did not answer in time.", NO_SERVICE
    if isinstance(error, openai.APIConnectionError):
        return (
            f"There is no Tunesmith at {url}. Start one with `tunesmith serve`, or name another "
            "with --url.",
            NO_SERVICE,
        )
    if isinstance(error, openai.APIStatusError):
        return _told(error.response), _code(error)
    if isinstance(error, openai.APIError):
        return error.message, FAILED
    raise error


def _code(error: openai.APIStatusError) -> int:
    return FAILED if isinstance(error.body, dict) else NO_SERVICE


def _told(answer: Any) -> str:
    """Return what a refusal says: its message, its code and the field at fault."""
    try:
        error = answer.json()["error"]
        beside = [error["code"], error["param"] and f"at '{error['param']}'"]
        shown = ", ".join(word for word in beside if word)
        return f"{error['message']} ({shown})" if shown else str(error["message"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.url} is no Tunesmith's: it answered {answer.status_code}."

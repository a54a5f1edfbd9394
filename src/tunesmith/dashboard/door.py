"""The page's only door: the public API, through the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, cast
from urllib.parse import quote

import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tunesmith.dashboard.read_aside import read_aside

NO_KEY = "none"
"""What is sent for a key where nobody signed in; a service without keys admits it."""

_PATIENCE = 30.0
"""Seconds that an answer may take; checks of files and first answers of models take longer."""

_RAW = "X-Stainless-Raw-Response"
"""The header by which the client is told to hand over an answer unread."""

Thing = dict[str, Any]
"""A JSON object of the API."""


@dataclass
class RefusedError(Exception):
    """The API refused a request, or could not be reached."""

    message: str
    """What was wrong, and the mend, for a person."""
    status: int | None = None
    """The HTTP status; `None` where there was no answer."""
    code: str | None = None
    """The API's stable code, where it gave one."""
    param: str | None = None
    """The key of the request at fault, where there is one."""

    @property
    def needs_key(self) -> bool:
        """Whether it asks for a key, or for another."""
        return self.status == 401

    @property
    def is_absent(self) -> bool:
        """Whether the service has no such route yet."""
        return self.status in (404, 405, 501) and self.code in (
            None,
            "unknown_url",
            "method_not_allowed",
        )

    def __str__(self) -> str:
        """Return the message."""
        return self.message


class _Streamed(Protocol):
    """The client's answer that is read piece by piece."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    def iter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]: ...
    def iter_lines(self) -> AsyncIterator[str]: ...
    async def close(self) -> None: ...


@dataclass
class Door:
    """The public API as one key sees it."""

    address: str
    """The service, `http://127.0.0.1:8015`."""
    key: str = field(default=NO_KEY, repr=False)
    """The API key."""

    def __post_init__(self) -> None:
        """Connect to nothing yet."""
        self.client = AsyncOpenAI(
            base_url=f"{self.address}/v1",
            api_key=self.key,
            max_retries=0,
            timeout=_PATIENCE,
            # The service is on this machine, of which no proxy knows.
            http_client=DefaultAsyncHttpxClient(
                trust_env=False, event_hooks={"request": [read_aside]}
            ),
        )
        """The official client."""
        self.closed = False
        """Whether nothing is asked through it any longer."""

    async def close(self) -> None:
        """End the connections; who asks from now on is told to sign in."""
        self.closed = True
        await self.client.close()

    async def get(self, path: str, *, patience: float = _PATIENCE, **query: object) -> Thing:
        """Return the object at `path`, such as `/models`. Raises `RefusedError`."""
        given = {name: value for name, value in query.items() if value is not None}
        with _told(self):
            answer = await self.client.get(
                path, cast_to=object, options={"params": given, "timeout": patience}
            )
        return cast(Thing, answer)

    async def post(
        self, path: str, body: object | None = None, *, patience: float = _PATIENCE
    ) -> Thing:
        """Send `body` to `path` and return the answer. Raises `RefusedError`."""
        with _told(self):
            answer = await self.client.post(
                path, cast_to=object, body=body, options={"timeout": patience}
            )
        return cast(Thing, answer)

    async def create_job(self, request: Thing, *, once: str) -> Thing:
        """Create a job, one only however often `once` comes. Raises `RefusedError`."""
        with _told(self):
            answer = await self.client.post(
                "/fine_tuning/jobs",
                cast_to=object,
                body=request,
                options={"headers": {"Idempotency-Key": once}},
            )
        return cast(Thing, answer)

    async def delete(self, path: str) -> None:
        """Delete what is at `path`. Raises `RefusedError`."""
        with _told(self):
            await self.client.delete(path, cast_to=object)

    async def upload(self, name: str, content: IO[bytes]) -> Thing:
        """Upload a training file, which other threads read, and return its object.

        Raises `RefusedError`.
        """
        with _told(self):
            file = await self.client.files.create(
                file=(name, content), purpose="fine-tune", timeout=3600
            )
        return file.to_dict()

    @asynccontextmanager
    async def opened(
        self, path: str, *, headers: Mapping[str, str] | None = None, patience: float | None = None
    ) -> AsyncIterator[_Streamed]:
        """Open what is at `path`, to be read piece by piece. Raises `RefusedError`."""
        with _told(self):
            answer = await self.client.get(
                path,
                cast_to=object,
                options={
                    "headers": {_RAW: "stream", "Accept": "*/*", **(headers or {})},
                    "timeout": patience,
                },
            )
        stream = cast(_Streamed, answer)
        try:
            yield stream
        finally:
            await stream.close()

    async def events_behind(self, job_id: str, event_id: str | None) -> AsyncIterator[Thing]:
        """Yield the job's events behind that of `event_id` as they come, until it has ended.

        Raises `RefusedError`, and what ends a connection.
        """
        headers = {"Accept": "text/event-stream"}
        if event_id:
            headers["Last-Event-ID"] = event_id
        path = job_path(job_id, "events")
        async with self.opened(path, headers=headers) as stream:
            async for line in stream.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])

    async def answer(
        self, model: str, messages: Sequence[Mapping[str, str]], *, options: Mapping[str, Any]
    ) -> AsyncIterator[str]:
        """Yield the pieces of the answer of `model` as they come. Raises `RefusedError`."""
        with _told(self):
            stream = await self.client.chat.completions.create(
                model=model,
                messages=cast(Any, list(messages)),
                stream=True,
                timeout=300,
                **cast(Any, dict(options)),
            )
        with _told(self):
            async for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        yield choice.delta.content


def job_path(job_id: str, *below: str) -> str:
    """Return the path of a job, or of what is below it."""
    return "/".join(["/fine_tuning/jobs", quoted(job_id), *below])


def quoted(name: str) -> str:
    """Return `name` as one part of a path."""
    return quote(name, safe=":")


class _told:  # noqa: N801  it is used like a function
    """Turns the client's errors into `RefusedError`."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def __enter__(self) -> None:
        if self._door.closed:
            raise _signed_out()

    # Python passes all three by position.
    def __exit__(  # noqa: PLR0917
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, openai.APIError) and self._door.closed:
            raise _signed_out() from None
        if isinstance(error, openai.APIStatusError):
            raise _refused(error) from None
        if isinstance(error, openai.APITimeoutError | asyncio.TimeoutError):
            raise RefusedError("The service took too long to answer; try again.") from None
        if isinstance(error, openai.APIError):
            raise RefusedError(
                "The service does not answer now; this page asks again by itself."
            ) from None


def _signed_out() -> RefusedError:
    return RefusedError("You are signed out. Sign in again.", status=401)


def _refused(error: openai.APIStatusError) -> RefusedError:
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message")
    return RefusedError(
        message if isinstance(message, str) else f"The service answered {error.status_code}.",
        status=error.status_code,
        code=_text(body.get("code")),
        param=_text(body.get("param")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

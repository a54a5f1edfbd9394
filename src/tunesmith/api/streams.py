"""Stream what is told of a job as it comes: server-sent events, as the HTML standard has them.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tunesmith.api.access import Access, Admitted, Doorkeeper
from tunesmith.api.codes import TOO_MANY_STREAMS
from tunesmith.domain.errors import BusyError
from tunesmith.protocol.events import EventObject
from tunesmith.protocol.logs import LogLineObject
from tunesmith.store.protocol import Store

_Answer = TypeVar("_Answer")

MEDIA_TYPE = "text/event-stream"
"""What a client accepts who wants a stream, and what it then gets."""

MOST_STREAMS = 200
"""Streams that one process keeps open at once."""

STREAM_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
    204: {"description": "The job has ended, and nothing follows behind `Last-Event-ID`"},
}
"""Describes the answers of a stream, for a route's `responses`."""

_log = logging.getLogger(__name__)

_READERS = 4
"""Threads that look for news at once, whatever the number of streams."""


class EventStreams:
    """The streams of one process, and their pace."""

    def __init__(
        self,
        store: Store,
        *,
        most: int = MOST_STREAMS,
        pause: float = 0.5,
        patience: float = 5.0,
        heartbeat: float = 15.0,
    ) -> None:
        """Keep up to `most` open.

        `store`, that of all projects, is asked for news each `pause` seconds, once for all
        streams. A stream looks by itself after `patience` seconds without any, and says that
        it is alive after `heartbeat` seconds of silence.
        """
        self._store = store
        self.pause = pause
        """Seconds between two looks for news."""
        self.patience = patience
        """Seconds without news behind which a stream looks by itself."""
        self.heartbeat = heartbeat
        """Seconds of silence behind which a stream says that it is alive."""
        self.closed = False
        """Whether all streams are to end."""
        self._most = most
        self._open = 0
        self._readers = anyio.CapacityLimiter(_READERS)
        self._listeners: dict[str, set[anyio.Event]] = {}
        self._watch: asyncio.Task[None] | None = None

    def close(self) -> None:
        """End all streams, and begin no other; may be called in a signal handler."""
        self.closed = True

    def enter(self) -> None:
        """Count one stream more. Raises `BusyError` where there is no room for it."""
        if self._open >= self._most:
            raise BusyError(
                f"This process streams to {self._most} clients, which is as many as it can. "
                "Try again later, or ask for a list instead.",
                code=TOO_MANY_STREAMS,
                retry_after=10,
            )
        self._open += 1
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._keep_watch())

    def leave(self) -> None:
        """Count one stream less."""
        self._open -= 1

    @contextmanager
    def listening(self, job_id: str) -> Iterator[anyio.Event]:
        """Yield an event that is set once the job has told something, or all streams end.

        What is told from here on sets it, so look for what was told before in the block.
        """
        heard = anyio.Event()
        listeners = self._listeners.setdefault(job_id, set())
        listeners.add(heard)
        try:
            yield heard
        finally:
            listeners.discard(heard)
            if not listeners and self._listeners.get(job_id) is listeners:
                del self._listeners[job_id]

    async def look(self, question: Callable[[], _Answer]) -> _Answer:
        """Return the answer of `question`, without holding up the loop."""
        return await to_thread.run_sync(question, limiter=self._readers)

    async def _keep_watch(self) -> None:
        """Tell the listeners of news, for as long as there are streams."""
        place: int | None = None
        while self._open and not self.closed:
            try:
                news = await to_thread.run_sync(partial(self._store.news, behind=place))
            except Exception:  # noqa: BLE001  the edge of this loop, which others wait for
                _log.exception("News cannot be looked for; streams look by themselves meanwhile.")
            else:
                # Upon the first look, nobody knows what was told just before it.
                self._tell(self._listeners if place is None else news.job_ids)
                place = news.newest
            await anyio.sleep(self.pause)
        self._tell(self._listeners)

    def _tell(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            for heard in self._listeners.get(job_id, ()):
                heard.set()


@dataclass(frozen=True)
class Batch:
    """What is new to a listener."""

    text: str
    """The server-sent events, by `written`; empty if there are none."""
    place: str | None
    """Where to go on: the id of the last of them, or else what was asked behind."""
    ended: bool
    """Whether nothing will ever follow."""


@dataclass(frozen=True)
class Listener:
    """Who listens to a job, and to what."""

    job_id: str
    """The job."""
    read: Callable[[str | None], Awaitable[Batch]]
    """Returns what is new behind a place."""
    patience: float
    """Seconds behind which to look for news, though the job has told none."""
    admitted: Callable[[], Awaitable[bool]]
    """Tells whether the listener would be admitted now."""


class LiveStream(StreamingResponse):
    """What is told of a job, from what is in hand until all is told, or the listener's key ends."""

    def __init__(self, streams: EventStreams, listener: Listener, *, first: Batch) -> None:
        """Begin with `first`, which was read already."""
        self._streams = streams
        self._listener = listener
        self._first = first
        # A proxy that gathers an answer before it passes it on would keep the news to itself.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._chunks(), media_type=MEDIA_TYPE, headers=headers)

    # ASGI servers pass all three by position.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
        """Answer, where there is room for one more stream; the client's leaving ends it."""
        self._streams.enter()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.leave()

    async def _chunks(self) -> AsyncIterator[str]:
        batch, spoke = self._first, time.monotonic()
        while True:
            if batch.text:
                spoke = time.monotonic()
                yield batch.text
            elif time.monotonic() - spoke >= self._streams.heartbeat:
                spoke = time.monotonic()
                yield ":\n\n"
            if batch.ended or self._streams.closed:
                return
            batch = await self._next(batch.place)
            if not await self._listener.admitted():
                return

    async def _next(self, place: str | None) -> Batch:
        """Return what is new behind `place`, at the latest after the patience."""
        with self._streams.listening(self._listener.job_id) as heard:
            batch = await self._listener.read(place)
            if batch.text or batch.ended:
                return batch
            with anyio.move_on_after(self._listener.patience):
                await heard.wait()
        return await self._listener.read(place)


@dataclass(frozen=True)
class Asked:
    """A request that may ask for a stream."""

    request: Request
    """The request."""
    access: Access
    """What it may do."""

    @property
    def wants_stream(self) -> bool:
        """Whether it accepts a stream, and no JSON."""
        accept = self.request.headers.get("accept", "")
        kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
        return MEDIA_TYPE in kinds and "application/json" not in kinds

    @property
    def streams(self) -> EventStreams:
        """The streams of this process."""
        streams: EventStreams = self.request.app.state.streams
        return streams

    async def stream(
        self,
        job_id: str,
        read: Callable[[str | None], Awaitable[Batch]],
        *,
        behind: str | None,
        patience: float,
    ) -> Response:
        """Return the stream of what `read` finds behind a place; 204 where nothing follows."""
        first = await read(behind)
        if first.ended and not first.text:
            return Response(status_code=204)
        doorkeeper: Doorkeeper = self.request.app.state.doorkeeper
        admitted = partial(doorkeeper.admits_still, self.access)
        listener = Listener(job_id, read, patience, admitted)
        return LiveStream(self.streams, listener, first=first)


async def _asked(request: Request, access: Admitted) -> Asked:
    return Asked(request, access)


Asking = Annotated[Asked, Depends(_asked)]
"""A handler's parameter that receives the request, to answer it by a stream."""


def written(shown: EventObject | LogLineObject) -> str:
    """Return a server-sent event that holds `shown`."""
    return f"id: {shown.id}\nevent: {shown.object}\ndata: {shown.model_dump_json()}\n\n"

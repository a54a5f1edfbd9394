"""Stream a job's events as they come: server-sent events, as the HTML standard describes them.

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
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import Depends, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tunesmith.api.access import Admitted, Doorkeeper
from tunesmith.api.codes import TOO_MANY_STREAMS
from tunesmith.api.services import Serviced
from tunesmith.domain.errors import BusyError, InvalidRequestError
from tunesmith.domain.events import Event, Told
from tunesmith.protocol.events import EventObject
from tunesmith.protocol.reading import shortened
from tunesmith.store.protocol import Store

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

_BATCH = 500
"""Events that are read at once."""


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
                f"This process streams events to {self._most} clients, which is as many as it can. "
                "Try again later, or list the events instead.",
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

    async def read(self, store: Store, job_id: str, *, after: str | None) -> Told:
        """Return what the job has told behind the event `after`, without holding up the loop."""
        return await to_thread.run_sync(
            lambda: store.events_behind(job_id, after=after, limit=_BATCH), limiter=self._readers
        )

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
class Listener:
    """Who listens to a job."""

    store: Store
    """The store as the listener's project sees it."""
    job_id: str
    """The job."""
    admitted: Callable[[], Awaitable[bool]]
    """Tells whether the listener would be admitted now."""


class EventStream(StreamingResponse):
    """A job's events, from those in hand until the job's end, or that of the listener's key."""

    def __init__(
        self, streams: EventStreams, listener: Listener, *, after: str | None, first: Told
    ) -> None:
        """Begin with `first`, which was read from behind the event `after`."""
        self._streams = streams
        self._listener = listener
        self._after = after
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
        told, after, spoke = self._first, self._after, time.monotonic()
        while True:
            if told.events:
                after, spoke = told.events[-1].id, time.monotonic()
                yield "".join(_written(event) for event in told.events)
            elif time.monotonic() - spoke >= self._streams.heartbeat:
                spoke = time.monotonic()
                yield ":\n\n"
            if told.ended or self._streams.closed:
                return
            told = await self._next(after)
            if not await self._listener.admitted():
                return

    async def _next(self, after: str | None) -> Told:
        """Return what was told behind the event `after`, at the latest after the patience."""
        store, job_id = self._listener.store, self._listener.job_id
        with self._streams.listening(job_id) as heard:
            told = await self._streams.read(store, job_id, after=after)
            if told.events or told.ended:
                return told
            with anyio.move_on_after(self._streams.patience):
                await heard.wait()
        return await self._streams.read(store, job_id, after=after)


async def _asked_stream(
    request: Request,
    services: Serviced,
    *,
    access: Admitted,
    job_id: str,
    last_event_id: Annotated[
        str | None, Header(description="With a stream: the last event that is known already")
    ] = None,
) -> Response | None:
    """Return the stream of the job's events that `request` asks for; `None` if it asks for none."""
    if not _accepts_stream(request.headers.get("accept", "")):
        return None
    if request.query_params:
        raise InvalidRequestError(
            "A stream of events takes no query; the header 'Last-Event-ID' says where it goes on.",
            param=next(iter(request.query_params)),
        )
    streams: EventStreams = request.app.state.streams
    try:
        first = await streams.read(services.store, job_id, after=last_event_id)
    except InvalidRequestError:
        raise InvalidRequestError(
            f"'Last-Event-ID' is {shortened(last_event_id or '')!r}, which is no event of this "
            "job. Give an id that the stream sent, or leave the header out to begin anew.",
            param="Last-Event-ID",
        ) from None
    if first.ended and not first.events:
        return Response(status_code=204)
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    listener = Listener(services.store, job_id, partial(doorkeeper.admits_still, access))
    return EventStream(streams, listener, after=last_event_id, first=first)


AskedStream = Annotated[Response | None, Depends(_asked_stream)]
"""A handler's parameter that receives the answer to a request for a stream of events."""


def _accepts_stream(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return MEDIA_TYPE in kinds and "application/json" not in kinds


def _written(event: Event) -> str:
    shown = EventObject.to_wire(event)
    return f"id: {shown.id}\nevent: {shown.object}\ndata: {shown.model_dump_json()}\n\n"

"""`/v1/fine_tuning/jobs/{id}/logs`: what a job's training processes log, on whatever node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from tunesmith.api.answers import WireRoute
from tunesmith.api.services import Serviced
from tunesmith.api.streams import STREAM_ANSWERS, Asking, Batch, written
from tunesmith.artifacts.logs import LogFile
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.events import LogLine
from tunesmith.domain.values import Page
from tunesmith.protocol.logs import LogLineList, LogLineObject
from tunesmith.store.protocol import Store

router = APIRouter(
    route_class=WireRoute, prefix="/v1/fine_tuning/jobs/{job_id}/logs", tags=["fine-tuning"]
)
"""The routes of this resource."""

_MOST_LINES = 1000
"""Lines of an answer, or of one part of a stream."""

_FEW_LINES = 100
"""The last lines that are shown where the request does not say how many."""

_LAST_PLACE = 2**53
"""A line's place is at most what JSON's readers take for a whole number."""

_PAUSE = 1.0
"""Seconds between two looks of a stream at the log, as often as training processes write it."""

_HEADER = "Last-Event-ID"
_PLACE = "Place of the last line that you have"


@dataclass(frozen=True)
class Wanted:
    """Which lines a request asks for."""

    tail: int
    """How many of the last ones, where it has no place."""
    place: int | None
    """The place behind which they stand."""
    place_from: str
    """What of the request gives the place."""
    follow: bool
    """Whether to stream them."""


def _wanted(
    asked: Asking,
    *,
    tail: Annotated[
        int | None,
        Query(
            ge=1, le=_MOST_LINES, description=f"How many of the last lines; {_FEW_LINES} if null"
        ),
    ] = None,
    after: Annotated[
        int | None, Query(ge=0, le=_LAST_PLACE, description=f"{_PLACE}; instead of `tail`")
    ] = None,
    follow: Annotated[
        bool, Query(description="Whether to stream; so does `Accept: text/event-stream`")
    ] = False,
    last_event_id: Annotated[
        int | None,
        Header(alias=_HEADER, ge=0, le=_LAST_PLACE, description=f"With a stream: {_PLACE.lower()}"),
    ] = None,
) -> Wanted:
    if tail is not None and after is not None:
        raise InvalidRequestError(
            "'tail' shows the last lines and 'after' those behind a line; give one.", param="tail"
        )
    streams = follow or asked.wants_stream
    if streams and last_event_id is not None:
        return Wanted(tail or _FEW_LINES, last_event_id, _HEADER, follow=True)
    return Wanted(tail or _FEW_LINES, after, "after", follow=streams)


@router.get("", response_model=LogLineList, responses=STREAM_ANSWERS)
async def read_log(
    services: Serviced,
    asked: Asking,
    *,
    job_id: str,
    wanted: Annotated[Wanted, Depends(_wanted)],
) -> LogLineList | Response:
    """Show the last lines of a job's log, or those behind a line; or stream them as they come.

    Each line names its time, attempt, rank, node and level. A stream has server-sent
    events, from the last lines on or from behind `after` or the header `Last-Event-ID`,
    until the job has ended.
    """
    reader = _Reader(services.store, LogFile(services.artifacts, job_id), job_id, wanted.tail)
    try:
        if not wanted.follow:
            page = await asked.streams.look(lambda: reader.page(wanted.place))
            return LogLineList.to_wire(page)

        async def read(place: str | None) -> Batch:
            return await asked.streams.look(lambda: reader.batch(place))

        behind = None if wanted.place is None else str(wanted.place)
        return await asked.stream(job_id, read, behind=behind, patience=_PAUSE)
    except InvalidRequestError as error:
        raise InvalidRequestError(error.message, param=wanted.place_from) from None


@dataclass(frozen=True)
class _Reader:
    """Reads one job's log."""

    store: Store
    log: LogFile
    job_id: str
    tail: int

    def page(self, behind: int | None) -> Page[LogLine]:
        """Return the lines behind a place, or the last ones."""
        self.store.job(self.job_id)
        return self._lines(behind)

    def batch(self, place: str | None) -> Batch:
        """Return what is new behind `place`, for a stream."""
        # Looked at before the log: what was written before the end is then read.
        job = self.store.job(self.job_id)
        ended = job.status.terminal and not job.submission_open
        page = self._lines(None if place is None else int(place))
        shown = [LogLineObject.to_wire(line) for line in page.items]
        # Where there is no log yet, it will be shown from its beginning.
        reached = shown[-1].id if shown else place or "0"
        text = "".join(written(line) for line in shown)
        return Batch(text, reached, ended=ended and not page.has_more)

    def _lines(self, behind: int | None) -> Page[LogLine]:
        if behind is None:
            return self.log.last(self.tail)
        return self.log.behind(behind, limit=_MOST_LINES)

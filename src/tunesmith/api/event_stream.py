"""Stream a job's events as they come."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Response

from tunesmith.api.services import Serviced
from tunesmith.api.streams import Asking, Batch, written
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.events import Event
from tunesmith.protocol.events import EventObject
from tunesmith.protocol.reading import shortened

_BATCH = 500
"""Events that are read at once."""


async def _asked_stream(
    services: Serviced,
    asked: Asking,
    *,
    job_id: str,
    last_event_id: Annotated[
        str | None, Header(description="With a stream: the last event that is known already")
    ] = None,
) -> Response | None:
    """Return the stream of the job's events that is asked for; `None` if none is."""
    if not asked.wants_stream:
        return None
    query = asked.request.query_params
    if query:
        raise InvalidRequestError(
            "A stream of events takes no query; the header 'Last-Event-ID' says where it goes on.",
            param=next(iter(query)),
        )
    streams = asked.streams

    async def read(place: str | None) -> Batch:
        told = await streams.look(
            lambda: services.store.events_behind(job_id, after=place, limit=_BATCH)
        )
        text = "".join(_event(event) for event in told.events)
        return Batch(text, told.events[-1].id if told.events else place, told.ended)

    try:
        return await asked.stream(job_id, read, behind=last_event_id, patience=streams.patience)
    except InvalidRequestError:
        raise InvalidRequestError(
            f"'Last-Event-ID' is {shortened(last_event_id or '')!r}, which is no event of this "
            "job. Give an id that the stream sent, or leave the header out to begin anew.",
            param="Last-Event-ID",
        ) from None


AskedStream = Annotated[Response | None, Depends(_asked_stream)]
"""A handler's parameter that receives the answer to a request for a stream of events."""


def _event(event: Event) -> str:
    return written(EventObject.to_wire(event))

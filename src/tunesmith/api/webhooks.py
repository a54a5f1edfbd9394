"""`/v1/webhook_endpoints`: who is told of the ends of jobs, and the log of what they were told."""

from __future__ import annotations

import time
from typing import Annotated

import anyio
from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from tunesmith.api.answers import WireRoute
from tunesmith.api.body import JsonBody
from tunesmith.api.codes import WEBHOOK_SILENT
from tunesmith.api.openapi import json_body
from tunesmith.api.services import Serviced
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.ids import new_endpoint_id
from tunesmith.domain.webhooks import (
    OLD_SECRET_SECONDS,
    DeliveryStatus,
    WebhookEndpoint,
    WebhookEvent,
    new_secret,
)
from tunesmith.protocol.reading import read_shape
from tunesmith.protocol.webhooks import (
    AskSample,
    CreateEndpoint,
    DeliveryList,
    DeliveryObject,
    EndpointDeleted,
    EndpointList,
    EndpointObject,
    EndpointWithSecret,
    EventTypeList,
    RotateSecret,
    SampleAnswer,
    UpdateEndpoint,
)

router = APIRouter(route_class=WireRoute, prefix="/v1", tags=["webhooks"])
"""The routes of this resource."""

PATIENCE = 20.0
"""Seconds for which the answer to a sample is waited for: twice what a post may take."""

_PAUSE = 0.25

Limit = Annotated[int, Query(ge=1, le=100)]
"""Rows of a page, 1 to 100."""


@router.get("/webhook_event_types")
def list_event_types(_services: Serviced) -> EventTypeList:
    """List what an endpoint can be told of."""
    return EventTypeList(data=[each.value for each in WebhookEvent])


@router.post("/webhook_endpoints", openapi_extra=json_body(CreateEndpoint))
def create_endpoint(services: Serviced, body: JsonBody) -> EndpointWithSecret:
    """Add an endpoint that is told of the ends of jobs; the answer alone shows its secret."""
    asked = read_shape(CreateEndpoint, body)
    now = services.now()
    endpoint = WebhookEndpoint(
        id=new_endpoint_id(),
        created_at=now,
        updated_at=now,
        name=asked.name,
        url=asked.url,
        event_types=tuple(WebhookEvent(each) for each in asked.event_types),
        secret=new_secret(),
    )
    services.store.add_endpoint(endpoint)
    return EndpointWithSecret.to_wire(endpoint)


@router.get("/webhook_endpoints")
def list_endpoints(
    services: Serviced, *, limit: Limit = 20, after: str | None = None
) -> EndpointList:
    """List endpoints, newest first."""
    return EndpointList.to_wire(services.store.list_endpoints(after=after, limit=limit))


@router.get("/webhook_endpoints/{endpoint_id}")
def retrieve_endpoint(services: Serviced, endpoint_id: str) -> EndpointObject:
    """Retrieve an endpoint."""
    return EndpointObject.to_wire(services.store.endpoint(endpoint_id))


@router.post("/webhook_endpoints/{endpoint_id}", openapi_extra=json_body(UpdateEndpoint))
def update_endpoint(services: Serviced, endpoint_id: str, *, body: JsonBody) -> EndpointObject:
    """Change an endpoint, and enable it again if it was disabled."""
    changes = read_shape(UpdateEndpoint, body).changes()
    return EndpointObject.to_wire(services.store.change_endpoint(endpoint_id, changes))


@router.delete("/webhook_endpoints/{endpoint_id}")
def delete_endpoint(services: Serviced, endpoint_id: str) -> EndpointDeleted:
    """Delete an endpoint with its deliveries; what waits for it is not sent any more."""
    services.store.delete_endpoint(endpoint_id)
    return EndpointDeleted(id=endpoint_id)


@router.post(
    "/webhook_endpoints/{endpoint_id}/rotate_secret", openapi_extra=json_body(RotateSecret)
)
def rotate_secret(services: Serviced, endpoint_id: str, *, body: JsonBody) -> EndpointWithSecret:
    """Replace an endpoint's secret; on request the old one signs as well for 24 hours."""
    keep = read_shape(RotateSecret, body).keep_old_secret_active_for_24_hours
    old = services.store.endpoint(endpoint_id).secret if keep else None
    changes = {
        "secret": new_secret(),
        "old_secret": old,
        "old_secret_until": services.now() + OLD_SECRET_SECONDS if keep else None,
    }
    return EndpointWithSecret.to_wire(services.store.change_endpoint(endpoint_id, changes))


@router.post("/webhook_endpoints/{endpoint_id}/test", openapi_extra=json_body(AskSample))
async def test_endpoint(services: Serviced, endpoint_id: str, *, body: JsonBody) -> SampleAnswer:
    """Have a sample of an event posted to an endpoint, once, and tell what it answered."""
    store, event = services.store, WebhookEvent(read_shape(AskSample, body).event_type)
    sample = await run_in_threadpool(store.add_sample, endpoint_id, event)
    deadline = time.monotonic() + PATIENCE
    # The controller posts it: this process sends no requests.
    while sample.status is DeliveryStatus.PENDING and time.monotonic() < deadline:
        await anyio.sleep(_PAUSE)
        sample = await run_in_threadpool(store.delivery, endpoint_id, sample.id)
    if sample.status_code is None:
        fault = sample.error or "The sample still waits to be posted."
        raise InvalidRequestError(
            f"The endpoint did not answer. {fault} Its log shows what becomes of delivery "
            f"'{sample.id}'.",
            code=WEBHOOK_SILENT,
        )
    return SampleAnswer(
        webhook_endpoint_id=endpoint_id, event_type=event.value, status_code=sample.status_code
    )


@router.get("/webhook_endpoints/{endpoint_id}/deliveries")
def list_deliveries(
    services: Serviced, endpoint_id: str, *, limit: Limit = 20, after: str | None = None
) -> DeliveryList:
    """List what an endpoint was or is to be told, newest first, for 30 days."""
    page = services.store.list_deliveries(endpoint_id, after=after, limit=limit)
    return DeliveryList.to_wire(page)


@router.post("/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}/retry")
def retry_delivery(services: Serviced, endpoint_id: str, *, delivery_id: str) -> DeliveryObject:
    """Send a delivery again at once, also one that was delivered."""
    return DeliveryObject.to_wire(services.store.retry_delivery(endpoint_id, delivery_id))

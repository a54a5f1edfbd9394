"""OpenAI's webhook endpoints, and our log of what they were told."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tunesmith.domain.values import Page
from tunesmith.domain.webhooks import Delivery, WebhookEndpoint, WebhookEvent, address_forbidden
from tunesmith.protocol.wire import Wire

EventType = Literal[
    "fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"
]
"""What an endpoint can be told of."""


def _checked_url(url: str) -> str:
    fault = _url_fault(url)
    if fault:
        raise PydanticCustomError("url", "{fault}", {"fault": fault})
    return url


def _url_fault(url: str) -> str | None:
    if not (url.isascii() and url.isprintable()) or " " in url:
        return "must be written in printable ASCII without spaces; encode the rest of it"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "must be a URL such as 'https://example.org/hook'"
    if parts.scheme not in ("http", "https") or not host:
        return "must be a URL with 'http' or 'https' and a host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or a password; receivers know us by the signature"
    if parts.fragment:
        return "must not have a fragment (#…)"
    return _address_fault(host)


def _address_fault(host: str) -> str | None:
    try:
        forbidden = address_forbidden(host)
    except ValueError:
        # A name; its addresses are looked at upon each delivery.
        return None
    return "must not lead to a link-local, multicast or metadata address" if forbidden else None


def _unique(types: list[EventType]) -> list[EventType]:
    if len(set(types)) != len(types):
        raise PydanticCustomError("unique", "must not name a type twice")
    return types


Name = Annotated[str, Field(min_length=1, max_length=256)]
"""What an endpoint's owner calls it."""

Url = Annotated[
    str,
    Field(max_length=2048, json_schema_extra={"pattern": r"^https?://[a-z0-9]+(\.[a-z0-9]+)*$"}),
    AfterValidator(_checked_url),
]
"""Where deliveries go."""

EventTypes = Annotated[
    list[EventType],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_unique),
]
"""What an endpoint is told of."""


class CreateEndpoint(Wire):
    """The request that adds an endpoint."""

    name: Name
    """1 to 256 characters."""
    url: Url
    """`http` or `https`; no user, no password, no fragment."""
    event_types: EventTypes
    """One or more of the three events of jobs."""


class UpdateEndpoint(Wire):
    """The request that changes an endpoint; what is left out stays."""

    name: Name | None = None
    """See `CreateEndpoint`."""
    url: Url | None = None
    """See `CreateEndpoint`."""
    event_types: EventTypes | None = None
    """See `CreateEndpoint`."""

    def changes(self) -> dict[str, Any]:
        """Return the endpoint's fields that change; whichever they are, it is enabled again."""
        named = self.model_dump(exclude_none=True)
        if self.event_types is not None:
            named["event_types"] = tuple(WebhookEvent(each) for each in self.event_types)
        return {"enabled": True, **named}


class RotateSecret(Wire):
    """The request that replaces an endpoint's secret."""

    keep_old_secret_active_for_24_hours: bool = False
    """Whether deliveries are signed with the old one as well, for a day."""


class AskSample(Wire):
    """The request that has a sample posted."""

    event_type: EventType
    """The event that the sample is of."""


class SampleAnswer(Wire):
    """What an endpoint answered to a sample."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    """Tells the kinds of objects apart."""
    webhook_endpoint_id: str
    """The endpoint."""
    event_type: str
    """The event that the sample was of."""
    success: Literal[True] = True
    """It has answered, whatever that was."""
    status_code: int
    """The answer's status; 200 to 299 is a delivery."""


class EndpointObject(Wire):
    """An endpoint as clients see it."""

    id: str
    """`we_…`."""
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    """Tells the kinds of objects apart."""
    created_at: int
    """Unix seconds."""
    updated_at: int
    """Unix seconds of the last change of it or of its secret."""
    name: str
    """What its owner calls it."""
    url: str
    """Where deliveries go."""
    event_types: list[str]
    """What it is told of."""
    signing_secret_hint: str
    """The end of its secret."""
    enabled: bool
    """False behind an answer 410: it is told nothing until it is updated."""

    @classmethod
    def to_wire(cls, endpoint: WebhookEndpoint) -> Self:
        """Return `endpoint` as clients see it, without its secret."""
        return cls(**_shown(endpoint))


class EndpointWithSecret(EndpointObject):
    """An endpoint whose secret has just been made."""

    signing_secret: str = Field(repr=False)
    """`whsec_` and base64 of 32 bytes; it is never shown again."""

    @classmethod
    def to_wire(cls, endpoint: WebhookEndpoint) -> Self:
        """Return `endpoint` with its secret."""
        return cls(signing_secret=endpoint.secret, **_shown(endpoint))


class EndpointList(Wire):
    """A page of endpoints."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[EndpointObject]
    """The endpoints, newest first."""
    first_id: str | None
    """Id of the first, null in an empty page."""
    last_id: str | None
    """Id of the last, the next page's `after`."""
    has_more: bool
    """Whether older ones follow."""

    @classmethod
    def to_wire(cls, page: Page[WebhookEndpoint]) -> Self:
        """Return `page` as clients see it."""
        data = [EndpointObject.to_wire(endpoint) for endpoint in page.items]
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=page.has_more,
        )


class EndpointDeleted(Wire):
    """The answer to a deletion."""

    id: str
    """The endpoint that is gone."""
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    """Tells the kinds of objects apart."""
    deleted: Literal[True] = True
    """It is gone."""


class EventTypeList(Wire):
    """All that an endpoint can be told of."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[str]
    """The types."""


class DeliveryObject(Wire):
    """One event on its way to one endpoint."""

    id: str
    """`wh_…`, the header `webhook-id`."""
    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    """Tells the kinds of objects apart."""
    webhook_endpoint_id: str
    """Where it goes."""
    event_id: str
    """`evt_…`, the body's `id`."""
    event_type: str
    """What happened."""
    fine_tuning_job_id: str | None
    """To which job; null in a sample."""
    created_at: int
    """Unix seconds."""
    status: Literal["pending", "delivered", "failed"]
    """Where it stands."""
    attempts: int
    """How often it was tried."""
    next_attempt_at: int | None
    """Unix seconds; null unless it is pending."""
    attempted_at: int | None
    """Unix seconds of the last attempt."""
    status_code: int | None
    """What the endpoint answered then; null where it did not."""
    error: str | None
    """Why that attempt did not deliver it."""
    delivered_at: int | None
    """Unix seconds."""

    @classmethod
    def to_wire(cls, delivery: Delivery) -> Self:
        """Return `delivery` as clients see it."""
        return cls(
            id=delivery.id,
            webhook_endpoint_id=delivery.endpoint_id,
            event_id=delivery.event_id,
            event_type=delivery.type.value,
            fine_tuning_job_id=delivery.job_id,
            created_at=delivery.created_at,
            status=delivery.status.value,
            attempts=delivery.attempts,
            next_attempt_at=delivery.next_attempt_at,
            attempted_at=delivery.attempted_at,
            status_code=delivery.status_code,
            error=delivery.error,
            delivered_at=delivery.delivered_at,
        )


class DeliveryList(Wire):
    """A page of an endpoint's deliveries."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[DeliveryObject]
    """The deliveries, newest first."""
    first_id: str | None
    """Id of the first, null in an empty page."""
    last_id: str | None
    """Id of the last, the next page's `after`."""
    has_more: bool
    """Whether older ones follow."""

    @classmethod
    def to_wire(cls, page: Page[Delivery]) -> Self:
        """Return `page` as clients see it."""
        data = [DeliveryObject.to_wire(delivery) for delivery in page.items]
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=page.has_more,
        )


def _shown(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": [each.value for each in endpoint.event_types],
        "signing_secret_hint": f"whsec_…{endpoint.secret[-4:]}",
        "enabled": endpoint.enabled,
    }

"""Webhooks: who is told of a job's end, how it is signed, and when it is tried again.

Signatures follow Standard Webhooks (https://www.standardwebhooks.com), as OpenAI's do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pydantic import Field

from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.projects import DEFAULT_PROJECT
from tunesmith.domain.values import Value

SECRET_PREFIX = "whsec_"  # noqa: S105
"""What every signing secret begins with; base64 of its bytes follows."""

MOST_ATTEMPTS = 10
"""How often a delivery is tried; by `retry_delay`, that is over about 24 hours."""

SAMPLE_JOB = "ftjob-sample"
"""The job that a sample tells its receiver of; there is none of that id."""

OLD_SECRET_SECONDS = 24 * 3600
"""For how long a secret that was replaced may be kept."""

_FIRST_DELAY = 5.0
_LONGEST_DELAY = 8 * 3600.0

_METADATA = frozenset(
    ip_address(each) for each in ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
"""Addresses beside the link-local ones at which clouds tell machines their credentials."""

_NAT64 = ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for IPv4 ones (RFC 6052)."""


class WebhookEvent(StrEnum):
    """What an endpoint can be told of, in OpenAI's words."""

    SUCCEEDED = "fine_tuning.job.succeeded"
    FAILED = "fine_tuning.job.failed"
    CANCELLED = "fine_tuning.job.cancelled"


EVENT_OF = {
    JobStatus.SUCCEEDED: WebhookEvent.SUCCEEDED,
    JobStatus.FAILED: WebhookEvent.FAILED,
    JobStatus.CANCELLED: WebhookEvent.CANCELLED,
}
"""Which event each terminal status is."""


class WebhookEndpoint(Value):
    """An address that is told of the ends of a project's jobs."""

    id: str
    """`we_…`."""
    created_at: int
    """Unix seconds."""
    updated_at: int
    """Unix seconds of the last change of it or of its secret."""
    name: str
    """Its owner's word for it."""
    url: str
    """Where deliveries are posted."""
    event_types: tuple[WebhookEvent, ...]
    """What it is told of."""
    secret: str = Field(repr=False)
    """Signs the deliveries; shown when it is made, and never again."""
    old_secret: str | None = Field(default=None, repr=False)
    """The secret before it, which signs as well until `old_secret_until`."""
    old_secret_until: int | None = None
    """Unix seconds."""
    enabled: bool = True
    """Whether it is told of anything; an endpoint that answers 410 is not."""
    project: str = DEFAULT_PROJECT
    """The project that it belongs to; the store writes it."""


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Delivery(Value):
    """One event on its way to one endpoint."""

    id: str
    """`wh_…`, the header `webhook-id`, the same at each attempt."""
    endpoint_id: str
    """Where it goes."""
    event_id: str
    """`evt_…`, the same at each endpoint."""
    type: WebhookEvent
    """What happened."""
    job_id: str | None
    """To which job; a sample is of none."""
    created_at: int
    """Unix seconds of the job's end."""
    status: DeliveryStatus = DeliveryStatus.PENDING
    """Where it stands."""
    attempts: int = 0
    """How often it was tried since it was made, or since a retry was asked for."""
    next_attempt_at: int | None
    """Unix seconds of the next attempt; `None` unless it is pending."""
    attempted_at: int | None = None
    """Unix seconds of the last attempt."""
    status_code: int | None = None
    """What the endpoint answered then; `None` where it did not."""
    error: str | None = None
    """Why that attempt did not deliver it."""
    delivered_at: int | None = None
    """Unix seconds."""

    @property
    def most_attempts(self) -> int:
        """How often it is tried: a sample once, for whoever asked for it waits."""
        return 1 if self.job_id is None else MOST_ATTEMPTS


class Attempt(Value):
    """What came of posting a delivery once."""

    at: int
    """Unix seconds."""
    status_code: int | None = None
    """The answer's status; `None` where there was no answer."""
    error: str | None = None
    """Why there was none, or why it is no success."""

    @property
    def delivered(self) -> bool:
        """Whether the endpoint took it."""
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def gone(self) -> bool:
        """Whether the endpoint asks to be told nothing more."""
        return self.status_code == 410


def new_secret() -> str:
    """Return a fresh signing secret, `whsec_` and base64 of 32 random bytes."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def retry_delay(attempts: int, *, chance: float) -> float:
    """Return the seconds between attempt number `attempts` and the next one.

    They grow fourfold from 5 s up to 8 hours. `chance`, 0 to 1, shifts them by up to a
    tenth either way, so that what failed together is not tried again together.
    """
    delay = min(_FIRST_DELAY * float(4 ** (attempts - 1)), _LONGEST_DELAY)
    return delay * (0.9 + 0.2 * chance)


def after_attempt(delivery: Delivery, attempt: Attempt, *, chance: float) -> Delivery:
    """Return `delivery` behind `attempt`; see `retry_delay` for `chance`."""
    attempts = delivery.attempts + 1
    seen = {
        "attempts": attempts,
        "attempted_at": attempt.at,
        "status_code": attempt.status_code,
        "error": attempt.error,
        "next_attempt_at": None,
    }
    if attempt.delivered:
        seen |= {"status": DeliveryStatus.DELIVERED, "delivered_at": attempt.at}
    elif attempt.gone or attempts >= delivery.most_attempts:
        seen |= {"status": DeliveryStatus.FAILED}
    else:
        seen |= {"next_attempt_at": attempt.at + round(retry_delay(attempts, chance=chance))}
    return delivery.model_copy(update=seen)


def body_of(delivery: Delivery) -> bytes:
    """Return what is posted, the same bytes at each attempt."""
    event = {
        "id": delivery.event_id,
        "object": "event",
        "created_at": delivery.created_at,
        "type": delivery.type.value,
        "data": {"id": delivery.job_id or SAMPLE_JOB},
    }
    return json.dumps(event, separators=(",", ":")).encode()


def headers_of(endpoint: WebhookEndpoint, delivery: Delivery, *, now: int) -> dict[str, str]:
    """Return the headers that prove where the delivery comes from, at the unix second `now`."""
    signing = [endpoint.secret]
    if endpoint.old_secret and now < (endpoint.old_secret_until or 0):
        signing.append(endpoint.old_secret)
    signed = f"{delivery.id}.{now}.".encode() + body_of(delivery)
    return {
        "webhook-id": delivery.id,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in signing),
    }


def address_forbidden(address: str) -> bool:
    """Tell whether nothing may be posted to the IP `address`.

    Those are the ones at which a cloud hands a machine its credentials, and those that
    are no single machine's. Loopback and private networks are allowed: who hosts this
    service has receivers there. Raises `ValueError` for what is no address.
    """
    found = _plain(ip_address(address.partition("%")[0]))
    shared = found.is_link_local or found.is_multicast or found.is_unspecified
    return shared or found in _METADATA or str(found) == "255.255.255.255"


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 one stands for, where it stands for one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()

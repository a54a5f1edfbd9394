"""The SQL of webhooks: endpoints, and the deliveries that wait for the controller."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, update

from tunesmith.domain.ids import new_delivery_id, new_webhook_event_id
from tunesmith.domain.jobs import Job
from tunesmith.domain.values import Page
from tunesmith.domain.webhooks import (
    EVENT_OF,
    Attempt,
    Delivery,
    DeliveryStatus,
    WebhookEndpoint,
    WebhookEvent,
    after_attempt,
)
from tunesmith.store import rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import (
    behind,
    insert_values,
    place_of,
    read_all,
    read_one,
    read_page,
)
from tunesmith.store.rows import to_row
from tunesmith.store.scope import Scope
from tunesmith.store.tables import WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS

_ENDPOINTS, _DELIVERIES = WEBHOOK_ENDPOINTS.c, WEBHOOK_DELIVERIES.c

_LOOKED_AT = 200
"""Due deliveries that are looked at to find the first of each endpoint.

Those behind them come once the endpoints that are before them are busy.
"""


class SqlWebhooks(Scope):
    """Each method does what `WebhookStore` says of it, in one transaction."""

    def add_endpoint(self, endpoint: WebhookEndpoint) -> None:
        """Add an endpoint; see `Store.add_endpoint`."""
        count = select(func.count()).where(self._mine(WEBHOOK_ENDPOINTS))
        with writing(self._engine) as connection:
            rules.check_endpoint_limit(connection.scalar(count) or 0)
            insert_values(connection, WEBHOOK_ENDPOINTS, self._owned(endpoint))

    def endpoint(self, endpoint_id: str) -> WebhookEndpoint:
        """Return the endpoint of that id; see `Store.endpoint`."""
        with reading(self._engine) as connection:
            return self._endpoint(connection, endpoint_id)

    def list_endpoints(self, *, after: str | None, limit: int) -> Page[WebhookEndpoint]:
        """Return endpoints, newest first; see `Store.list_endpoints`."""
        mine = self._mine(WEBHOOK_ENDPOINTS)
        with reading(self._engine) as connection:
            place = place_of(connection, WEBHOOK_ENDPOINTS, after=after, seen=mine)
            query = behind(select(WEBHOOK_ENDPOINTS).where(mine), _ENDPOINTS.seq, place=place)
            return read_page(connection, query, kind=WebhookEndpoint, limit=limit)

    def change_endpoint(self, endpoint_id: str, changes: dict[str, Any]) -> WebhookEndpoint:
        """Give the endpoint new values; see `Store.change_endpoint`."""
        with writing(self._engine) as connection:
            before = self._endpoint(connection, endpoint_id)
            dated = before.model_copy(update={**changes, "updated_at": self._now()})
            _write_endpoint(connection, dated)
            return dated

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Forget the endpoint and its deliveries; see `Store.delete_endpoint`."""
        with writing(self._engine) as connection:
            self._endpoint(connection, endpoint_id)
            ours = _DELIVERIES.endpoint_id == endpoint_id
            connection.execute(delete(WEBHOOK_DELIVERIES).where(ours))
            connection.execute(delete(WEBHOOK_ENDPOINTS).where(_ENDPOINTS.id == endpoint_id))

    def list_deliveries(self, endpoint_id: str, *, after: str | None, limit: int) -> Page[Delivery]:
        """Return the endpoint's deliveries, newest first; see `Store.list_deliveries`."""
        ours = _DELIVERIES.endpoint_id == endpoint_id
        with reading(self._engine) as connection:
            self._endpoint(connection, endpoint_id)
            place = place_of(connection, WEBHOOK_DELIVERIES, after=after, seen=ours)
            query = behind(select(WEBHOOK_DELIVERIES).where(ours), _DELIVERIES.seq, place=place)
            return read_page(connection, query, kind=Delivery, limit=limit)

    def delivery(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """Return the endpoint's delivery of that id; see `Store.delivery`."""
        query = select(WEBHOOK_DELIVERIES).where(
            _DELIVERIES.id == delivery_id, _DELIVERIES.endpoint_id == endpoint_id
        )
        with reading(self._engine) as connection:
            self._endpoint(connection, endpoint_id)
            missing = rules.no_delivery(delivery_id)
            return read_one(connection, query, kind=Delivery, missing=missing)

    def add_sample(self, endpoint_id: str, event: WebhookEvent) -> Delivery:
        """Add a delivery of a sample; see `Store.add_sample`."""
        now = self._now()
        sample = _fresh_delivery(endpoint_id, event, job_id=None, at=now)
        with writing(self._engine) as connection:
            self._endpoint(connection, endpoint_id)
            insert_values(connection, WEBHOOK_DELIVERIES, sample)
        return sample

    def retry_delivery(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """Make the delivery due now; see `Store.retry_delivery`."""
        query = _delivery(delivery_id).where(_DELIVERIES.endpoint_id == endpoint_id)
        with writing(self._engine) as connection:
            self._endpoint(connection, endpoint_id)
            missing = rules.no_delivery(delivery_id)
            delivery = read_one(connection, query, kind=Delivery, missing=missing)
            again = delivery.model_copy(
                update={
                    "status": DeliveryStatus.PENDING,
                    "attempts": 0,
                    "next_attempt_at": self._now(),
                }
            )
            _write_delivery(connection, again)
            return again

    def due_deliveries(
        self, *, busy: Collection[str], limit: int
    ) -> list[tuple[WebhookEndpoint, Delivery]]:
        """Return what is to be posted now; see `Store.due_deliveries`."""
        due = (
            select(WEBHOOK_DELIVERIES)
            .where(_DELIVERIES.next_attempt_at <= self._now(), _DELIVERIES.endpoint_id.not_in(busy))
            .order_by(_DELIVERIES.next_attempt_at, _DELIVERIES.seq)
            .limit(_LOOKED_AT)
        )
        first: dict[str, Delivery] = {}
        with reading(self._engine) as connection:
            for each in read_all(connection, due, kind=Delivery):
                first.setdefault(each.endpoint_id, each)
            chosen = list(first.values())[:limit]
            return [(self._endpoint(connection, each.endpoint_id), each) for each in chosen]

    def record_attempt(self, delivery_id: str, attempt: Attempt) -> Delivery | None:
        """Note what came of posting the delivery; see `Store.record_attempt`."""
        chance = secrets.randbelow(1001) / 1000
        with writing(self._engine) as connection:
            found = read_all(connection, _delivery(delivery_id), kind=Delivery)
            if not found:
                return None
            after = after_attempt(found[0], attempt, chance=chance)
            _write_delivery(connection, after)
            if attempt.gone:
                _disable(connection, after.endpoint_id)
            return after

    def drop_deliveries(self, *, before: int) -> int:
        """Forget the deliveries made before a time; see `Store.drop_deliveries`."""
        with writing(self._engine) as connection:
            old = _DELIVERIES.created_at < before
            return connection.execute(delete(WEBHOOK_DELIVERIES).where(old)).rowcount

    def _endpoint(self, connection: Connection, endpoint_id: str) -> WebhookEndpoint:
        query = select(WEBHOOK_ENDPOINTS).where(
            _ENDPOINTS.id == endpoint_id, self._mine(WEBHOOK_ENDPOINTS)
        )
        missing = rules.no_endpoint(endpoint_id)
        return read_one(connection, query, kind=WebhookEndpoint, missing=missing)


def announce_end(connection: Connection, job: Job, *, at: int) -> None:
    """Add a delivery of the end of `job` at the unix second `at` for each endpoint that wants it.

    This belongs into the transaction that ends the job: no end is then told that was not
    written, and none is written that is not told.
    """
    query = select(WEBHOOK_ENDPOINTS).where(_ENDPOINTS.project == job.project, _ENDPOINTS.enabled)
    event, event_id = EVENT_OF[job.status], new_webhook_event_id()
    deliveries = [
        _fresh_delivery(endpoint.id, event, job_id=job.id, at=at, event_id=event_id)
        for endpoint in read_all(connection, query, kind=WebhookEndpoint)
        if event in endpoint.event_types
    ]
    insert_values(connection, WEBHOOK_DELIVERIES, *deliveries)


def _fresh_delivery(
    endpoint_id: str,
    event: WebhookEvent,
    *,
    job_id: str | None,
    at: int,
    event_id: str | None = None,
) -> Delivery:
    return Delivery(
        id=new_delivery_id(),
        endpoint_id=endpoint_id,
        event_id=event_id or new_webhook_event_id(),
        type=event,
        job_id=job_id,
        created_at=at,
        next_attempt_at=at,
    )


def _delivery(delivery_id: str) -> Select[Any]:
    return select(WEBHOOK_DELIVERIES).where(_DELIVERIES.id == delivery_id)


def _write_endpoint(connection: Connection, endpoint: WebhookEndpoint) -> None:
    statement = update(WEBHOOK_ENDPOINTS).where(_ENDPOINTS.id == endpoint.id)
    connection.execute(statement.values(to_row(endpoint)))


def _write_delivery(connection: Connection, delivery: Delivery) -> None:
    statement = update(WEBHOOK_DELIVERIES).where(_DELIVERIES.id == delivery.id)
    connection.execute(statement.values(to_row(delivery)))


def _disable(connection: Connection, endpoint_id: str) -> None:
    """Tell the endpoint nothing more, what waits for it included."""
    waiting = (_DELIVERIES.endpoint_id == endpoint_id) & _DELIVERIES.next_attempt_at.is_not(None)
    failed = {
        "status": DeliveryStatus.FAILED,
        "next_attempt_at": None,
        "error": "The endpoint was disabled, since it answered 410 to another delivery.",
    }
    connection.execute(update(WEBHOOK_DELIVERIES).where(waiting).values(failed))
    statement = update(WEBHOOK_ENDPOINTS).where(_ENDPOINTS.id == endpoint_id)
    connection.execute(statement.values(enabled=False))

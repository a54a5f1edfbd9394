"""Posts what webhooks are to be told, one delivery at a time to each endpoint."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tunesmith.controller.doors import Doors
from tunesmith.domain.webhooks import (
    Attempt,
    Delivery,
    WebhookEndpoint,
    address_forbidden,
    body_of,
    headers_of,
)

LOOK_PAUSE = 1.0
"""Seconds between two looks for due deliveries."""

TIMEOUT = 10.0
"""Seconds that an endpoint gets to answer, from the look-up of its name on."""

MOST_AT_ONCE = 16
"""Endpoints that are posted to at once; one that hangs holds up no other."""

_SHOWN = 200
"""Longest error that the log of deliveries keeps, in characters."""

logger = logging.getLogger(__name__)


class AddressError(Exception):
    """The endpoint's name leads where nothing may be posted."""


class Courier:
    """Delivers. What was posted but not noted when it dies is posted again, with the same id."""

    def __init__(self, doors: Doors, client: httpx.AsyncClient) -> None:
        """Take deliveries from the store of `doors` and post them through `client`."""
        self._doors = doors
        self._client = client
        self._posting: dict[str, asyncio.Task[None]] = {}

    async def begin_due(self) -> None:
        """Begin to post what is due, as far as there is room."""
        self._posting = {id: task for id, task in self._posting.items() if not task.done()}
        room = MOST_AT_ONCE - len(self._posting)
        if room <= 0:
            return
        due = await asyncio.to_thread(
            self._doors.store.due_deliveries, busy=tuple(self._posting), limit=room
        )
        for endpoint, delivery in due:
            task = asyncio.create_task(self._deliver(endpoint, delivery))
            self._posting[endpoint.id] = task

    async def settle(self, *, patience: float | None = None) -> None:
        """Wait until something that is being posted is done, `patience` seconds at the most."""
        if self._posting:
            tasks, first = self._posting.values(), asyncio.FIRST_COMPLETED
            await asyncio.wait(tasks, timeout=patience, return_when=first)
        elif patience:
            await asyncio.sleep(patience)

    async def _deliver(self, endpoint: WebhookEndpoint, delivery: Delivery) -> None:
        try:
            attempt = await self._post(endpoint, delivery)
            store = self._doors.store
            after = await asyncio.to_thread(store.record_attempt, delivery.id, attempt)
        except Exception:
            # It stays due. The pause keeps a store that fails from being asked in a circle.
            logger.exception("Delivery %s could not be made or noted.", delivery.id)
            await asyncio.sleep(LOOK_PAUSE)
            return
        if after is not None:
            found = attempt.status_code or attempt.error
            logger.info("Delivery %s to %s: %s (%s)", after.id, endpoint.id, after.status, found)

    async def _post(self, endpoint: WebhookEndpoint, delivery: Delivery) -> Attempt:
        now = int(self._doors.clock.now())
        try:
            async with asyncio.timeout(TIMEOUT):
                status = await self._status(endpoint, delivery, now=now)
        except TimeoutError:
            return Attempt(at=now, error=f"No answer within {TIMEOUT:.0f} s.")
        except (AddressError, OSError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            reason = str(error) or type(error).__name__
            return Attempt(at=now, error=reason[:_SHOWN])
        attempt = Attempt(at=now, status_code=status)
        if attempt.delivered:
            return attempt
        moved = " Redirects are not followed." if 300 <= status < 400 else ""
        return attempt.model_copy(update={"error": f"The endpoint answered {status}.{moved}"})

    async def _status(self, endpoint: WebhookEndpoint, delivery: Delivery, *, now: int) -> int:
        """Post the delivery and return the answer's status; its body is not read."""
        url = httpx.URL(endpoint.url)
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        headers = headers_of(endpoint, delivery, now=now) | {
            "content-type": "application/json",
            "host": url.netloc.decode("ascii"),
            "user-agent": "Tunesmith",
        }
        for address in (addresses := await _addresses(url.host, port)):
            # By the address that was checked: a second look-up might lead elsewhere.
            request = self._client.build_request(
                "POST",
                url.copy_with(host=address),
                content=body_of(delivery),
                headers=headers,
                extensions={"sni_hostname": url.host},
            )
            try:
                response = await self._client.send(request, stream=True)
            except httpx.ConnectError:
                if address == addresses[-1]:
                    raise
                continue
            await response.aclose()
            return response.status_code
        raise AddressError(f"'{url.host}' has no address.")


def keep_delivering(doors: Doors, stop: threading.Event) -> None:
    """Deliver until `stop` is set; a fault is logged."""
    asyncio.run(_deliver_until(doors, stop))


async def _deliver_until(doors: Doors, stop: threading.Event) -> None:
    async with open_courier(doors) as courier:
        while not stop.is_set():
            try:
                await courier.begin_due()
            except Exception:
                logger.exception("Deliveries could not be looked for; the next look tries again.")
            await courier.settle(patience=LOOK_PAUSE)


@asynccontextmanager
async def open_courier(doors: Doors) -> AsyncIterator[Courier]:
    """Open a courier; what it still posts at the end of the block is given up, and stays due."""
    # The system's certificates, so that a private authority that the machine trusts is trusted;
    # no proxy of the environment's, behind which an address could not be checked.
    async with httpx.AsyncClient(
        verify=ssl.create_default_context(), trust_env=False, timeout=TIMEOUT
    ) as client:
        yield Courier(doors, client)


async def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of `host`. Raises `AddressError` if one of them is forbidden."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    if any(address_forbidden(each) for each in addresses):
        raise AddressError(
            f"'{host}' leads to a link-local, multicast or metadata address, to which nothing is "
            "posted."
        )
    return addresses

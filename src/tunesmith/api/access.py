"""Who asks, for which project, and whether they may: keys, scopes, requests per minute."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers

from tunesmith.api.codes import INSUFFICIENT_SCOPE, INVALID_API_KEY, METRICS_REFUSED
from tunesmith.api.origin import check_origin
from tunesmith.domain.clock import Clock
from tunesmith.domain.errors import InsufficientScopeError, RateLimitError, UnknownKeyError
from tunesmith.domain.keys import SHOWN, ApiKey, Scope, digest_of
from tunesmith.domain.projects import DEFAULT_PROJECT, Limits
from tunesmith.store.protocol import KeyStore

PUBLIC = frozenset(
    {
        "/health",
        "/ready",
        "/v1/health_check",
        "/v1/statistics",
        "/openapi.json",
        "/docs",
        "/docs/oauth2-redirect",
    }
)
"""The paths that need no key: they tell nothing of any project."""

METRICS = "/metrics"
"""The path that tells of all projects, and that no project's key opens."""

_ADMINS = "/v1/fine_tuning/checkpoints/"
"""What the paths begin with that need an admin's key, as with OpenAI."""

_ASKING = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/files/{file_id}/validate",
        "/v1/fine_tuning/jobs/retrieve",
        "/v1/finetune/list_checkpoints",
    }
)
"""The paths whose POST only asks, and changes nothing."""

KNOWN_FOR = 1.0
"""Seconds for which keys and limits are remembered; so long a revoked key may still be taken."""

_READ_AFTER = KNOWN_FOR / 2
"""Seconds after which they are read again, beside the requests that still go by what is known."""


@dataclass(frozen=True)
class Access:
    """What a request may do."""

    project: str
    """The project whose things it sees."""
    limits: Limits
    """How much of them there may be."""
    key_id: str | None = None
    """The key by which it may; `None` where none is asked for."""


@dataclass(frozen=True)
class _Known:
    """The keys and projects as they were at one time."""

    read_at: float
    """The clock's unix time."""
    keys: Mapping[str, Sequence[ApiKey]]
    """The keys, by the characters that are kept of them."""
    limits: Mapping[str, Limits]
    """The limits that hold for each project."""


class Doorkeeper:
    """Admits requests. One stands before each API process."""

    def __init__(
        self,
        store: KeyStore,
        clock: Clock,
        *,
        open_without_keys: bool,
        names: Collection[str] | None,
        defaults: Limits,
        metrics_token: str | None = None,
    ) -> None:
        """Take keys and projects from `store`; `defaults` are the limits that projects start with.

        While no key was ever made, everybody is admitted if `open_without_keys`, else nobody;
        and only by one of `names` (see `check_origin`), unless those are `None`. The metrics are
        for who shows `metrics_token`; without one, for everybody while everybody is admitted.
        """
        self._store = store
        self._clock = clock
        self._open_without_keys = open_without_keys
        self._names = names
        self._defaults = defaults
        self._metrics_token = metrics_token
        self._reading: asyncio.Task[_Known] | None = None
        self._known: _Known | None = None
        # Counted in memory: a service that starts again begins a new minute.
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def admit(self, request: Request, needed: Scope) -> Access:
        """Return what `request` may do, if its key may do what needs the scope `needed`.

        Raises `UnknownKeyError`, `InsufficientScopeError` or `RateLimitError`, and `UserError`
        where a service without keys is called from elsewhere.
        """
        known = await self._known_now()
        if not known.keys and self._open_without_keys:
            if self._names is not None:
                check_origin(request.headers, names=self._names)
            project, key_id = DEFAULT_PROJECT, None
        else:
            key = self._key(known, _bearer(request.headers))
            _check_scope(key, needed)
            project, key_id = key.project, key.id
        limits = known.limits.get(project, self._defaults)
        access = Access(project, limits, key_id=key_id)
        self._count(access)
        return access

    async def check_visitor(self, headers: Headers) -> None:
        """Raise `UserError` where a service without keys is visited from elsewhere.

        That is by a request with `headers` for the page, whose own requests come from here.
        """
        known = await self._known_now()
        if not known.keys and self._open_without_keys and self._names is not None:
            check_origin(headers, names=self._names)

    async def admit_scraper(self, headers: Headers) -> None:
        """Raise `UserError` unless a request with `headers` may be told the metrics."""
        if self._metrics_token is not None:
            if not compare_digest(_bearer(headers).encode(), self._metrics_token.encode()):
                raise _no_scraper("It is not the one of the setting 'metrics_token'.")
            return
        known = await self._known_now()
        if known.keys or not self._open_without_keys:
            raise _no_scraper("An operator sets one as 'metrics_token'; API keys do not open it.")
        if self._names is not None:
            check_origin(headers, names=self._names)

    async def admits_still(self, access: Access) -> bool:
        """Tell whether what was admitted with `access` would be now, for what takes its time."""
        known = await self._known_now()
        if access.key_id is None:
            return self._open_without_keys and not known.keys
        now = self._clock.now()
        return any(
            key.id == access.key_id and key.usable(now=now)
            for keys in known.keys.values()
            for key in keys
        )

    async def _known_now(self) -> _Known:
        """Return what is known, which is read anew before it is too old; requests do not wait."""
        known, age = self._known, self._age()
        if known is not None and age < _READ_AFTER:
            return known
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(run_in_threadpool(self._read))
        if known is not None and age < KNOWN_FOR:
            return known
        # Everybody who comes meanwhile waits for the same look, whoever of them leaves.
        return await asyncio.shield(self._reading)

    def _age(self) -> float:
        """Return how many seconds ago was read what is known."""
        age = self._clock.now() - self._known.read_at if self._known else math.inf
        # A clock that was set back must not make what is known last longer.
        return age if age >= 0 else math.inf

    def _read(self) -> _Known:
        read_at, keys = self._clock.now(), defaultdict[str, list[ApiKey]](list)
        for key in self._store.list_keys():
            keys[key.prefix].append(key)
        limits = {each.name: each.limits(self._defaults) for each in self._store.list_projects()}
        self._known = known = _Known(read_at, dict(keys), limits)
        return known

    def _key(self, known: _Known, secret: str) -> ApiKey:
        """Return the usable key with this `secret`."""
        if not secret:
            raise _refused(
                "This service asks for an API key. Send it as 'Authorization: Bearer sk-ts-…', "
                "which OpenAI's clients do with `api_key`; the operator makes one with "
                "`tunesmith keys create`."
            )
        digest = digest_of(secret)
        # Found by what is no secret, and the rest compared in constant time.
        for key in known.keys.get(secret[:SHOWN], ()):
            if compare_digest(key.digest, digest):
                return self._usable(key)
        raise _refused(
            "The API key is none of this service's. Compare it with the one that was shown when "
            "it was made, or have the operator make another with `tunesmith keys create`."
        )

    def _usable(self, key: ApiKey) -> ApiKey:
        if key.usable(now=self._clock.now()):
            return key
        fault = "has expired" if key.revoked_at is None else "was revoked"
        raise _refused(
            f"The API key '{key.prefix}…' {fault}; have the operator make another with "
            "`tunesmith keys create`."
        )

    def _count(self, access: Access) -> None:
        """Count one request of the project. Raises `RateLimitError` where it is one too many."""
        most = access.limits.requests_per_minute
        if most is None:
            return
        item = RateLimitItemPerMinute(most)
        if most and self._limiter.hit(item, access.project):
            return
        resets_at = self._limiter.get_window_stats(item, access.project).reset_time
        raise RateLimitError(
            f"The project '{access.project}' has sent {most} requests within 60 seconds, which is "
            "its limit ('requests_per_minute'). Wait as long as 'Retry-After' says, or have the "
            "operator raise the limit with `tunesmith projects set`.",
            retry_after=max(1, math.ceil(resets_at - time.time())),
        )


def needed_scope(method: str, path: str) -> Scope:
    """Return the scope that a request of `method` to the route `path` needs."""
    if path.startswith(_ADMINS):
        return Scope.ADMIN
    return Scope.READ if method in ("GET", "HEAD") or path in _ASKING else Scope.WRITE


async def authorize(request: Request) -> Access:
    """Return what the request may do; its project is named in each log line from here on.

    Raises what `Doorkeeper.admit` raises.
    """
    route: APIRoute = request.scope["route"]
    if route.path in PUBLIC:
        return Access(DEFAULT_PROJECT, Limits())
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    if route.path == METRICS:
        await doorkeeper.admit_scraper(request.headers)
        return Access(DEFAULT_PROJECT, Limits())
    access = await doorkeeper.admit(request, needed_scope(request.method, route.path))
    request.state.log_fields["project"] = access.project
    return access


Admitted = Annotated[Access, Depends(authorize)]
"""A handler's parameter that receives what the request may do."""


def _check_scope(key: ApiKey, needed: Scope) -> None:
    if not key.scope.covers(needed):
        raise InsufficientScopeError(
            f"This needs a key of scope '{needed}'; the key '{key.prefix}…' has '{key.scope}'. "
            f"Have the operator make one with `tunesmith keys create --scope {needed}`.",
            code=INSUFFICIENT_SCOPE,
        )


def _bearer(headers: Headers) -> str:
    """Return what the `Authorization` header shows; nothing where that is no bearer's."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _no_scraper(why: str) -> UnknownKeyError:
    return UnknownKeyError(
        "The metrics tell of all projects, and are for who shows their token: "
        f"'Authorization: Bearer …'. {why}",
        code=METRICS_REFUSED,
    )


def _refused(message: str) -> UnknownKeyError:
    return UnknownKeyError(message, code=INVALID_API_KEY)

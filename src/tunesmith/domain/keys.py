"""API keys: who asks, for which project, and what they may do."""

from __future__ import annotations

import hashlib
import secrets
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from tunesmith.domain.ids import new_key_id
from tunesmith.domain.projects import PROJECT_NAME
from tunesmith.domain.values import Value

SECRET_PREFIX = "sk-ts-"  # noqa: S105  what all secrets begin with is none
"""What every key begins with, so that people and secret scanners know one when they see it."""

SHOWN = 12
"""Leading characters of a key that are kept in the clear, for recognition."""

_SECRET_BYTES = 40
"""Random bytes of a key: 320 bits, of which the characters that are kept give away 36."""


class Scope(StrEnum):
    """What a key may do. Each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: Scope) -> bool:
        """Tell whether a key of this scope may do what needs the scope `needed`."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


class ApiKey(Value):
    """What is kept of an API key; the key itself is shown once and kept nowhere."""

    id: str
    """`key_…`, by which it is revoked."""
    project: Annotated[str, Field(pattern=PROJECT_NAME)]
    """The project that it opens."""
    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What its owner calls it."""
    scope: Scope
    """What it may do."""
    prefix: str
    """Its first characters."""
    digest: str
    """SHA-256 of the whole key, in hex.

    A slow hash protects secrets that can be guessed; 320 random bits cannot.
    """
    created_at: int
    """Unix seconds."""
    expires_at: int | None = None
    """Unix seconds from which on it is refused; null means never."""
    revoked_at: int | None = None
    """Unix seconds of its revocation, if it is revoked."""

    def usable(self, *, now: float) -> bool:
        """Tell whether the key is taken at the unix time `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_of(secret: str) -> str:
    """Return what is kept of the key `secret`: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_key(
    project: str, name: str, *, scope: Scope, now: int, expires_at: int | None
) -> tuple[str, ApiKey]:
    """Return a fresh key, `sk-ts-` and 54 characters, and what is kept of it; times are unix."""
    secret = f"{SECRET_PREFIX}{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = ApiKey(
        id=new_key_id(),
        project=project,
        name=name,
        scope=scope,
        prefix=secret[:SHOWN],
        digest=digest_of(secret),
        created_at=now,
        expires_at=expires_at,
    )
    return secret, key

"""Keys by which a client repeats a request without repeating what it does."""

from __future__ import annotations

from tunesmith.domain.values import Value

KEY_LIFE = 24 * 3600
"""Seconds for which a key is remembered."""


class IdempotencyKey(Value):
    """What a client calls one request of its own, however often it sends it."""

    key: str
    """The client's word, unique within its project."""
    request: str
    """SHA-256 of what is asked for, in hex: the same key must ask for the same."""

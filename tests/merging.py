"""What `docs/how-to/send-a-changed-request.md` tells clients to do."""

from __future__ import annotations

from typing import Any


def merged(request: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return `request` with `change` merged over it, key by key."""
    both = dict(request)
    for key, value in change.items():
        below = both.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            both[key] = merged(below, value)
        else:
            both[key] = value
    return both

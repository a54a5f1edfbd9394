"""Numbers, times and states in words for people."""

from __future__ import annotations

import math
from datetime import UTC, datetime

STATUSES = {
    "validating_files": "checking files",
    "queued": "waiting",
    "running": "running",
    "paused": "paused",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""A job's statuses in the words of the page."""

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses that never change."""


def moment(seconds: object) -> str:
    """Return unix `seconds` as a time in UTC; a dash for none."""
    if not isinstance(seconds, int | float):
        return "–"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: object) -> str:
    """Return `seconds` in the two largest units that say something; a dash for none."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: object) -> str:
    """Return a number of bytes in the unit that fits; a dash for none."""
    if not isinstance(count, int | float):
        return "–"
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def number(value: object) -> str:
    """Return a number with four digits that matter; a dash for none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}"


def plain(value: object) -> str:
    """Return a setting as a person would write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(plain(each) for each in value) or "none"
    return number(value) if isinstance(value, int | float) else str(value)

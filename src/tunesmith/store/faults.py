"""What the faults of databases are to those who ask the store."""

from __future__ import annotations

from tunesmith.domain.errors import BusyError

_RETRY_AFTER = 5
"""Seconds after which one who asked in vain is told to try again."""


def busy() -> BusyError:
    """Return that another keeps the database to itself."""
    return BusyError(
        "The database has been kept busy for too long, most often by another process such as a "
        "backup. Nothing was changed; try again later.",
        code="database_busy",
        retry_after=_RETRY_AFTER,
    )


def unavailable() -> BusyError:
    """Return that the database's server is away, or went away meanwhile."""
    return BusyError(
        "The database's server does not answer, or broke the connection off. What was asked for "
        "was most likely not done; look, and try again later.",
        code="database_unavailable",
        retry_after=_RETRY_AFTER,
    )

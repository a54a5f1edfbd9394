"""Tell a full disk from other faults."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from tunesmith.domain.errors import DiskFullError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""The system's codes for a disk and for a quota without room."""


def disk_is_full(error: BaseException) -> bool:
    """Tell whether `error` says that a disk or a quota has no room left."""
    if isinstance(error, DiskFullError):
        return True
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    # `shutil` and the libraries written in Rust give the number in their texts alone.
    said = str(error)
    if any(f"[Errno {code}]" in said or f"(os error {code})" in said for code in _NO_ROOM):
        return True
    # torch says no more than where it stumbled over the error that it met first.
    return error.__context__ is not None and disk_is_full(error.__context__)


@contextmanager
def naming_full_disk() -> Iterator[None]:
    """Turn a write inside the block that finds no room into a `DiskFullError`."""
    try:
        yield
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise DiskFullError from error

"""Tell a full disk from other faults, and refuse what would fill one."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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


def free_bytes(folder: Path) -> int:
    """Return the bytes that are free for this user on the disk of `folder`."""
    return shutil.disk_usage(folder).free


class Disk:
    """A disk on which some room is left free, for what cannot wait: events, checkpoints, rows."""

    def __init__(
        self, folder: Path, *, floor: int, free: Callable[[Path], int] = free_bytes
    ) -> None:
        """Watch the disk of `folder`, of which `floor` bytes are to stay free; 0 watches nothing.

        `free` tells how many bytes are.
        """
        self._folder = folder
        self._floor = floor
        self._free = free

    def lack(self, size: int = 0) -> str | None:
        """Return what is wrong with writing `size` bytes more, in words; `None` for nothing."""
        if not self._floor:
            return None
        free = self._free(self._folder)
        if free - size >= self._floor:
            return None
        more = f", and {_shown(size)} are to be written" if size else ""
        return (
            f"The disk of the data folder has {_shown(free)} free{more}; {_shown(self._floor)} are "
            "kept free (`min_free_bytes`), so that running jobs can go on."
        )

    def check(self, size: int = 0) -> None:
        """Raise `DiskFullError` where `size` bytes more would take what is kept free."""
        lack = self.lack(size)
        if lack is not None:
            raise DiskFullError(lack)

    def holds_back(self) -> str | None:
        """Return why nothing new is begun; `None` where it is.

        The words stay the same as long as too little is free, so that they are told but once.
        """
        if self.lack() is None:
            return None
        return (
            f"The disk of the data folder has less than {_shown(self._floor)} free, which are kept "
            "(`min_free_bytes`) for what runs; it goes on by itself once there is room."
        )


UNWATCHED = Disk(Path(), floor=0)
"""A disk whose room is nobody's concern."""


def _shown(count: int) -> str:
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if count >= _BYTES[unit]), "bytes")
    return f"{count / _BYTES[unit]:.1f} {unit}" if unit in _BYTES else f"{count} bytes"


_BYTES = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}

"""The data folder's locks: one service and one controller at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from tunesmith.domain.errors import FolderInUseError, SettingsError


def open_folder(folder: Path) -> Path:
    """Create the data folder where absent. Raises `SettingsError` if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Without a name, over which two commands at once would stumble.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"The data folder '{folder}' cannot be written to ({error.strerror}). "
            "Name another with --data or TUNESMITH_DATA."
        ) from None
    return folder


@contextmanager
def holding(path: Path, *, patience: float) -> Iterator[None]:
    """Hold the lock file `path`, which the kernel releases however this process ends.

    Waits `patience` seconds for another holder to leave, then raises `FolderInUseError`.
    """
    deadline = time.monotonic() + patience
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise FolderInUseError(
                        f"The data folder '{path.parent}' is used by another service "
                        f"(process {file.read().strip() or 'unknown'}). "
                        "End that one, or name another folder with --data."
                    ) from None
                time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

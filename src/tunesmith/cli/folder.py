"""The data folder: made where absent, and shared by the services that use it."""

from __future__ import annotations

import fcntl
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
def sharing(folder: Path, *, patience: float) -> Iterator[None]:
    """Hold the lock of `folder` with other services; the kernel frees it however this process ends.

    Waits `patience` seconds for a process that has the folder to itself, such as one that
    empties it, then raises `FolderInUseError`.
    """
    deadline = time.monotonic() + patience
    with (folder / "serve.lock").open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise FolderInUseError(
                        f"Another process has the data folder '{folder}' to itself. "
                        "Wait for its end, or name another folder with --data."
                    ) from None
                time.sleep(0.05)
        yield


@contextmanager
def owning(folder: Path, *, mend: str = "Name another one.") -> Iterator[None]:
    """Hold the lock of `folder` alone.

    Raises `FolderInUseError`, which says `mend`, where a service has it.
    """
    with (folder / "serve.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(f"A service uses the data folder '{folder}'. {mend}") from None
        yield

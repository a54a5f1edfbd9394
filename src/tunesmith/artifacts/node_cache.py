"""Folders of an object store that were brought to this node, for all of its processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tunesmith.domain.disk import naming_full_disk
from tunesmith.domain.errors import ArtifactKeyError, SettingsError

KEPT = 3 * 24 * 3600.0
"""Seconds without use behind which a folder is removed when another one is brought."""


class Download(Protocol):
    """Writes an object to a file."""

    def __call__(self, name: str, path: Path) -> None:
        """Write the object `name` to `path`. Raises `ArtifactMissingError`."""


class NodeCache:
    """Keeps folders below the system's folder for temporary files, `TMPDIR`, by their content."""

    def __init__(self, url: str) -> None:
        """Keep what comes from `url`. Raises `SettingsError` where another user has the folder."""
        own = Path(tempfile.gettempdir()) / f"tunesmith-artifacts-{os.getuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        if own.is_symlink() or own.stat().st_uid != os.getuid() or own.stat().st_mode & 0o077:
            raise SettingsError(
                f"The folder '{own}' is open to others. Remove it, or name another place by TMPDIR."
            )
        self._folders = own / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._aside = self._folders / ".aside"
        self._aside.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty folder, which is gone behind the block."""
        folder = self._aside / uuid.uuid4().hex
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @naming_full_disk()
    def folder(self, files: Mapping[str, tuple[str, str]], *, download: Download) -> Path:
        """Return the folder with `files`, each by its name an object and the object's version.

        What is not here yet is downloaded aside first, so that nobody sees half of it.
        """
        told = "\n".join(
            f"{name}\t{object_}\t{tag}" for name, (object_, tag) in sorted(files.items())
        )
        place = self._folders / hashlib.sha256(told.encode()).hexdigest()[:32]
        with suppress(FileNotFoundError):
            os.utime(place)
            return place
        self._drop_unused()
        with self.scratch() as aside:
            made = aside / "made"
            for name, (object_, _) in files.items():
                path = made / name
                if ".." in path.parts:
                    raise ArtifactKeyError(f"{name!a} is not a plain relative path.")
                path.parent.mkdir(parents=True, exist_ok=True)
                download(object_, path)
            try:
                made.rename(place)
            except OSError:
                # Another process was as quick, and has the same.
                if not place.is_dir():
                    raise
        return place

    def _drop_unused(self) -> None:
        limit = time.time() - KEPT
        for folder in (*self._folders.iterdir(), *self._aside.iterdir()):
            with suppress(FileNotFoundError):
                if folder != self._aside and folder.stat().st_mtime < limit:
                    gone = self._aside / uuid.uuid4().hex
                    folder.rename(gone)
                    shutil.rmtree(gone, ignore_errors=True)

"""Artifacts on a local or shared disk: each key is a path below one folder."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tunesmith.artifacts.protocol import checked_key
from tunesmith.domain.errors import ArtifactMissingError

_ASIDE = ".aside"


class LocalArtifacts:
    """Keeps bytes below `root`; what is being written lies in `root/.aside` until it is whole."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`, which is created where absent."""
        self._root = root.resolve()
        self._aside_folder = self._root / _ASIDE
        self._aside_folder.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, data: bytes | Iterable[bytes]) -> int:
        """Store `data` under `key`; see `Artifacts.put`."""
        chunks = (data,) if isinstance(data, bytes) else data
        size = 0
        with self._replacing(key) as aside, aside.open("wb") as file:
            for chunk in chunks:
                size += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return size

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`; see `Artifacts.get`."""
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        """Open the bytes under `key`; see `Artifacts.open`."""
        try:
            return self._path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ArtifactMissingError(f"There are no bytes under '{key}'.") from None

    def append(self, key: str, data: bytes) -> None:
        """Add `data` behind what `key` holds; see `Artifacts.append`."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def tail(self, key: str, offset: int) -> bytes:
        """Return the bytes from `offset` on; see `Artifacts.tail`."""
        try:
            with self.open(key) as file:
                file.seek(offset)
                return file.read()
        except ArtifactMissingError:
            return b""

    def exists(self, key: str) -> bool:
        """Tell whether `key` holds bytes."""
        return self._path(key).is_file()

    def list(self, prefix: str) -> list[str]:
        """Return all keys below `prefix`, sorted."""
        folder = self._path(prefix)
        files = (path for path in folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._root).as_posix() for path in files)

    def copy(self, source: str, target: str) -> None:
        """Link `target` to the bytes of `source`: no key's bytes are ever changed in place.

        Where the file system has no hard links, the bytes are copied.
        """
        if not self.exists(source):
            raise ArtifactMissingError(f"There are no bytes under '{source}'.")
        with self._replacing(target) as aside:
            try:
                os.link(self._path(source), aside)
            except OSError:
                shutil.copyfile(self._path(source), aside)

    def delete(self, key: str) -> None:
        """Remove `key` and everything below it; see `Artifacts.delete`."""
        path = self._path(key)
        if path.is_dir():
            # Out of sight first, so that nobody meets half of a folder.
            aside = self._new_aside()
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def put_folder(self, prefix: str, folder: Path) -> None:
        """Move the files of `folder` under `prefix`; see `Artifacts.put_folder`."""
        aside = self._new_aside()
        shutil.copytree(folder, aside)
        for path in aside.rglob("*"):
            if path.is_file():
                _sync(path)
        target = self._path(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.delete(prefix)
        aside.rename(target)
        _sync(target.parent)
        shutil.rmtree(folder)

    def fetch_folder(self, prefix: str) -> Path:
        """Return the folder of `prefix` itself; see `Artifacts.fetch_folder`."""
        path = self._path(prefix)
        if not path.is_dir():
            raise ArtifactMissingError(f"There are no bytes below '{prefix}'.")
        return path

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _new_aside(self) -> Path:
        return self._aside_folder / uuid.uuid4().hex

    @contextmanager
    def _replacing(self, key: str) -> Iterator[Path]:
        """Yield a path to write to, which takes the key's place when the block ends well."""
        target, aside = self._path(key), self._new_aside()
        try:
            yield aside
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        _sync(target.parent)


def _sync(path: Path) -> None:
    """Bring a file's bytes or a folder's entries to the disk, so that they outlive a crash."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

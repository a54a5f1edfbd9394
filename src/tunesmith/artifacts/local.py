"""Artifacts on a local or shared disk: each key is a path below one folder."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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
        if path.exists() and path.stat().st_nlink > 1:
            # Another key was made of this one by `copy`, and must not grow with it.
            with self._replacing(key) as aside:
                shutil.copyfile(path, aside)
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
        # Unlike a glob, a walk passes over a folder that another process deletes meanwhile.
        walk = os.walk(self._path(prefix))
        files = (Path(folder, name) for folder, _, names in walk for name in names)
        return sorted(path.relative_to(self._root).as_posix() for path in files)

    def copy(self, source: str, target: str) -> None:
        """Link `target` to the bytes of `source`; neither follows what becomes of the other.

        Where the file system has no hard links, the bytes are copied.
        """
        if not self.exists(source):
            raise ArtifactMissingError(f"There are no bytes under '{source}'.")
        with self._replacing(target) as aside:
            try:
                os.link(self._path(source), aside)
            except OSError:
                shutil.copyfile(self._path(source), aside)
                _sync(aside)

    def delete(self, key: str) -> None:
        """Remove `key` and everything below it; see `Artifacts.delete`."""
        path = self._path(key)
        if path.is_dir():
            # Out of sight first, so that nobody meets half of a folder.
            shutil.rmtree(path.rename(self._new_aside()), ignore_errors=True)
        elif path.is_file():
            path.unlink(missing_ok=True)

    def put_folder(self, prefix: str, folder: Path) -> None:
        """Move the files of `folder` under `prefix`; see `Artifacts.put_folder`."""
        target, new = self._path(prefix), self._new_aside()
        try:
            shutil.copytree(folder, new)
            for path in (new, *new.rglob("*")):
                _sync(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._swap(new, target)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
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

    def _swap(self, new: Path, target: Path) -> None:
        """Let the folder `new` take the place of `target`, whoever else does the same just now."""
        placed = False
        while not placed:
            old = self._new_aside()
            with suppress(FileNotFoundError):
                target.rename(old)
            try:
                new.rename(target)
                placed = True
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            shutil.rmtree(old, ignore_errors=True)

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

"""Artifacts on a local or shared disk: each key is a path below one folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from tunesmith.artifacts.protocol import ArtifactWriter, checked_key
from tunesmith.domain.disk import naming_full_disk
from tunesmith.domain.errors import ArtifactMissingError

_ASIDE = ".aside"
_LOCKS = ".locks"


class LocalArtifacts:
    """Keeps bytes below `root`; what is being written lies in `root/.aside` until it is whole."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`, which is created where absent."""
        self._root = root.resolve()
        self._aside_folder = self._root / _ASIDE
        self._aside_folder.mkdir(parents=True, exist_ok=True)
        self._locks = self._root / _LOCKS
        self._locks.mkdir(exist_ok=True)

    def put(self, key: str, data: bytes | Iterable[bytes]) -> int:
        """Store `data` under `key`; see `Artifacts.put`."""
        checked_key(key)
        chunks = (data,) if isinstance(data, bytes) else data
        size = 0
        with self.writer() as writer:
            for chunk in chunks:
                writer.write(chunk)
                size += len(chunk)
            writer.publish(key)
        return size

    @contextmanager
    def writer(self) -> Iterator[ArtifactWriter]:
        """Yield a writer to a file aside; see `Artifacts.writer`."""
        aside = self._new_aside()
        try:
            # No buffer, which would write again at the close what found no room before.
            with naming_full_disk():
                file = aside.open("xb", buffering=0)
            with file:
                yield _LocalWriter(file, place=lambda key: self._place(aside, key))
        finally:
            aside.unlink(missing_ok=True)

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

    @naming_full_disk()
    def append(self, key: str, data: bytes) -> None:
        """Add `data` behind what `key` holds; see `Artifacts.append`."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_nlink > 1:
            # Another key was made of this one by `copy`, and must not grow with it.
            with self._replacing(key) as aside:
                shutil.copyfile(path, aside)
        # No buffer, which would write again at the close what is cut off here.
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                _write_all(file, data)
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(size)
                raise

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

    def written_at(self, key: str) -> float:
        """Return when the bytes under `key` were written; see `Artifacts.written_at`."""
        with self.open(key) as file:
            return os.fstat(file.fileno()).st_mtime

    @naming_full_disk()
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
            # Out of sight first, so that nobody meets half of a folder; another may be as quick.
            with suppress(FileNotFoundError):
                shutil.rmtree(path.rename(self._new_aside()), ignore_errors=True)
        elif path.is_file():
            path.unlink(missing_ok=True)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold one of 256 lock files, which `key` falls to; see `Artifacts.locked`."""
        name = hashlib.sha256(checked_key(key).encode()).hexdigest()[:2]
        with (self._locks / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty folder on the same disk; see `Artifacts.scratch`."""
        folder = self._new_aside()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @naming_full_disk()
    def put_folder(self, prefix: str, folder: Path) -> None:
        """Move the files of `folder` under `prefix`; see `Artifacts.put_folder`."""
        target = self._path(prefix)
        if not folder.is_relative_to(self._aside_folder):
            with self.scratch() as aside:
                self.put_folder(prefix, shutil.copytree(folder, aside / "copy"))
            shutil.rmtree(folder)
            return
        for path in (folder, *folder.rglob("*")):
            _sync(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._swap(folder, target)
        _sync(target.parent)

    def fetch_folder(self, prefix: str) -> Path:
        """Return the folder of `prefix` itself; see `Artifacts.fetch_folder`."""
        path = self._path(prefix)
        if not path.is_dir():
            raise ArtifactMissingError(f"There are no bytes below '{prefix}'.")
        return path

    def drop_unfinished(self, *, before: float) -> int:
        """Remove what killed writers left aside; see `Artifacts.drop_unfinished`."""
        old = [path for path in self._aside_folder.iterdir() if _changed_at(path) < before]
        for path in old:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(old)

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
        aside = self._new_aside()
        try:
            yield aside
            self._place(aside, key)
        finally:
            aside.unlink(missing_ok=True)

    def _place(self, aside: Path, key: str) -> None:
        """Move `aside` to the place of `key`, even while another deletes the folder there."""
        target = self._path(key)
        placed = False
        while not placed:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                aside.replace(target)
                placed = True
            except (FileNotFoundError, FileExistsError):
                if target.parent.is_file() or not aside.exists():
                    raise
        # Where it is gone, so is what would have to outlive a crash.
        with suppress(FileNotFoundError):
            _sync(target.parent)


class _LocalWriter:
    """Writes to a file that `place` then moves to its key; see `ArtifactWriter`."""

    def __init__(self, file: FileIO, *, place: Callable[[str], None]) -> None:
        self._file = file
        self._place = place

    @naming_full_disk()
    def write(self, data: bytes) -> None:
        _write_all(self._file, data)

    @naming_full_disk()
    def sync(self) -> None:
        os.fsync(self._file.fileno())

    @naming_full_disk()
    def publish(self, key: str) -> None:
        self.sync()
        self._place(key)


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _changed_at(path: Path) -> float:
    """Return when `path` or anything below it last changed, in unix seconds; 0 if it is gone.

    That is its inode's time: a link or a copy may bear the older date of its source.
    """
    newest = 0.0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            newest = max(newest, each.stat().st_ctime)
    return newest


def _sync(path: Path) -> None:
    """Bring a file's bytes or a folder's entries to the disk, so that they outlive a crash."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Artifacts in a bucket of S3, or of what speaks like it: each key is an object below one prefix.

Objects are stored whole or not at all. What S3 has none of is made of objects: keys that grow
(`s3_growing.py`), folders that appear at once (`s3_folders.py`), locks (`s3_lock.py`).
"""

from __future__ import annotations

import io
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from tunesmith.artifacts.node_cache import NodeCache
from tunesmith.artifacts.protocol import ArtifactWriter, checked_key
from tunesmith.artifacts.s3_bucket import Bucket, ConditionFailedError, Found
from tunesmith.artifacts.s3_folders import Folder, Folders, file_names
from tunesmith.artifacts.s3_growing import Growing
from tunesmith.artifacts.s3_lock import Lock
from tunesmith.artifacts.s3_stream import FIRST, RangedStream, Segment
from tunesmith.artifacts.s3_upload import ASIDE, S3Writer, Upload
from tunesmith.domain.errors import ArtifactMissingError, ArtifactsUnavailableError

_ATTEMPTS = 5
"""How often a request is tried, with growing pauses: some ten seconds."""

_BUFFER = 256 << 10
"""Bytes that a stream hands on at once where it is asked for few."""

_LOOKS = 5
"""How often it is looked where a thing is that somebody is just replacing."""


class S3Artifacts:
    """Keeps bytes below an `s3://bucket/prefix`."""

    def __init__(self, url: str, *, attempts: int = _ATTEMPTS) -> None:
        """Keep them at `url`; nothing is asked yet. A request is tried `attempts` times."""
        self._bucket = Bucket(url.rstrip("/"), attempts=attempts)
        self._growing = Growing(self._bucket)
        self._folders = Folders(self._bucket)
        self._cache = NodeCache(self._bucket.url)

    def check(self) -> None:
        """Raise `ArtifactsUnavailableError` where the store cannot be used as we need it."""
        name = f"{ASIDE}/{uuid.uuid4().hex}"
        self._bucket.put(name, b"1", new=True)
        try:
            self._bucket.get(name)
            next(self._bucket.list(ASIDE), None)
            self._bucket.put(name, b"2", new=True)
        except ConditionFailedError:
            return
        finally:
            self._bucket.delete([name])
        raise ArtifactsUnavailableError(
            f"{self._bucket.url} takes a write with If-None-Match over what is there, so that two "
            "writers would overwrite each other. Use a store, or a version of it, that refuses it."
        )

    def put(self, key: str, data: bytes | Iterable[bytes]) -> int:
        """Store `data` under `key`; see `Artifacts.put`."""
        checked_key(key)
        upload = Upload(self._bucket, key)
        try:
            for chunk in (data,) if isinstance(data, bytes) else data:
                upload.add(chunk)
            with self._replacing(key):
                upload.finish()
        finally:
            upload.abort()
        return upload.size

    @contextmanager
    def writer(self) -> Iterator[ArtifactWriter]:
        """Yield a writer to an object aside; see `Artifacts.writer`."""
        writer = S3Writer(self._bucket, put=self.put, place=self._place)
        try:
            yield writer
        finally:
            writer.close()

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`; see `Artifacts.get`."""
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        """Return a stream that reads ranges; see `Artifacts.open`.

        The first MiB is read at once. Where the object is replaced while more is read, that raises
        `ReplacedError`: the old bytes are gone.
        """
        checked_key(key)
        for _ in range(_LOOKS):
            name = key
            try:
                try:
                    first, found = self._bucket.get(key, end=FIRST)
                except ArtifactMissingError:
                    name = self._file_of(key)
                    first, found = self._bucket.get(name, end=FIRST)
            except ArtifactMissingError:
                if name == key:
                    break
                continue
            etag = None if self._growing.grows(found) else found.etag
            segments = [Segment(name, found.size, etag), *self._growing.behind(key, found)]
            stream = RangedStream(self._bucket, segments, first=first)
            return cast(BinaryIO, io.BufferedReader(stream, buffer_size=_BUFFER))
        raise self._missing(key)

    def append(self, key: str, data: bytes) -> None:
        """Add `data` behind what `key` holds; see `Artifacts.append`."""
        checked_key(key)
        folder = self._around(key)
        if folder is None:
            self._growing.append(key, data)
        else:
            self.put(key, self.get(key) + data)

    def tail(self, key: str, offset: int) -> bytes:
        """Return the bytes from `offset` on; see `Artifacts.tail`."""
        checked_key(key)
        try:
            content, found = self._bucket.get(key, start=offset)
        except ArtifactMissingError:
            if self._folders.around(key) is None:
                return b""
            return self.get(key)[offset:]
        passed = found.size
        for segment in self._growing.behind(key, found):
            start = max(0, offset - passed)
            if start < segment.size:
                # Not only as far as the list told, which is older.
                content += self._bucket.get(segment.name, start=start, end=segment.size)[0]
            passed += segment.size
        return content

    def exists(self, key: str) -> bool:
        """Tell whether `key` holds bytes."""
        checked_key(key)
        return self._bucket.head(key) is not None or self._folders.around(key) is not None

    def list(self, prefix: str) -> list[str]:
        """Return all keys below `prefix`, sorted."""
        return sorted(f"{prefix}/{name}" for name in self._below(checked_key(prefix)))

    def written_at(self, key: str) -> float:
        """Return when the bytes under `key` were written; see `Artifacts.written_at`."""
        return self._found(key).written_at

    def copy(self, source: str, target: str) -> None:
        """Make `target` hold what `source` holds, on the server; see `Artifacts.copy`."""
        checked_key(source)
        checked_key(target)
        for _ in range(_LOOKS):
            found = self._found(source)
            try:
                if self._growing.behind(source, found):
                    self.put(target, self.get(source))
                else:
                    self._place(found, target)
            except (ConditionFailedError, ArtifactMissingError):
                continue
            return
        raise self._missing(source)

    def delete(self, key: str) -> None:
        """Remove `key` and everything below it; see `Artifacts.delete`."""
        checked_key(key)
        for folder in list(self._folders.touching(key)):
            if folder.prefix == key or folder.prefix.startswith(f"{key}/"):
                self._folders.drop(folder)
                continue
            own = key.removeprefix(f"{folder.prefix}/")
            for name in folder.files:
                if name == own or name.startswith(f"{own}/"):
                    self._leave_out(folder.prefix, name)
        self._drop_plain(key)
        self._bucket.delete([key])

    def locked(self, key: str) -> AbstractContextManager[None]:
        """Hold the lock object of `key`; see `Artifacts.locked`.

        Whoever is gone without a word, or cut off from the store, for longer than a lease of 30 s
        has lost it.
        """
        return Lock(self._bucket, checked_key(key)).held()

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a context with an empty folder of this node; see `Artifacts.scratch`."""
        return self._cache.scratch()

    def put_folder(self, prefix: str, folder: Path) -> None:
        """Store the files of `folder` under `prefix`; see `Artifacts.put_folder`.

        What was put there file by file is gone a moment before the new files are seen.
        """
        checked_key(prefix)
        mark = self._folders.store(prefix, folder)
        for below in list(self._folders.touching(prefix)):
            if below.prefix.startswith(f"{prefix}/"):
                self._folders.drop(below)
        self._drop_plain(prefix)
        self._folders.show(prefix, mark, files=file_names(folder))
        shutil.rmtree(folder)

    def fetch_folder(self, prefix: str) -> Path:
        """Return a folder of this node with the files below `prefix`; see `Artifacts.fetch_folder`.

        What was fetched stays on the node while it is used, for all processes of its user.
        """
        checked_key(prefix)
        for _ in range(_LOOKS):
            files = self._below(prefix)
            if not files:
                break
            try:
                return self._cache.folder(files, download=self._bucket.download)
            except ArtifactMissingError:
                continue
        raise ArtifactMissingError(f"There are no bytes below '{prefix}'.")

    def drop_unfinished(self, *, before: float) -> int:
        """Remove what killed writers left unfinished; see `Artifacts.drop_unfinished`."""
        count = 0
        for path, upload, began in list(self._bucket.unfinished()):
            if began < before:
                self._bucket.abort(path, upload)
                count += 1
        old = [found.name for found in self._bucket.list(f"{ASIDE}/") if found.written_at < before]
        self._bucket.delete(old)
        return count + len(old) + self._folders.drop_unfinished(before=before)

    def _file_of(self, key: str) -> str:
        """Return the name of the object that holds `key` as a file of a folder.

        Raises `ArtifactMissingError`.
        """
        folder = self._folders.around(key)
        if folder is None:
            raise self._missing(key)
        return folder.object_of(key.removeprefix(f"{folder.prefix}/"))

    def _found(self, key: str) -> Found:
        """Return what is known of the object that holds `key`. Raises `ArtifactMissingError`."""
        for _ in range(_LOOKS):
            found = self._bucket.head(checked_key(key)) or self._bucket.head(self._file_of(key))
            if found is not None:
                return found
        raise self._missing(key)

    def _place(self, found: Found, key: str) -> None:
        """Make `key` hold what the object `found` holds."""
        with self._replacing(key):
            self._bucket.copy(found, key)

    def _around(self, key: str) -> Folder | None:
        """Return the folder that holds `key`, unless it has an object of its own."""
        return None if self._bucket.head(key) is not None else self._folders.around(key)

    def _below(self, prefix: str) -> dict[str, tuple[str, str]]:
        """Return each file below `prefix`: by its name there, its object and the version of it."""
        files: dict[str, tuple[str, str]] = {}
        for folder in self._folders.touching(prefix):
            for name in folder.files:
                key = f"{folder.prefix}/{name}"
                if key.startswith(f"{prefix}/"):
                    # Never replaced under this name, so that it needs no version.
                    files[key.removeprefix(f"{prefix}/")] = (folder.object_of(name), "")
        for found in self._bucket.list(f"{prefix}/"):
            files[found.name.removeprefix(f"{prefix}/")] = (found.name, found.etag)
        return files

    def _leave_out(self, prefix: str, name: str) -> None:
        folder = self._folders.at(prefix)
        if folder is not None and name in folder.files:
            self._folders.leave_out(folder, name)

    def _drop_plain(self, prefix: str) -> None:
        """Remove what was put below `prefix` file by file, and what follows it."""
        names = [found.name for found in self._bucket.list(f"{prefix}/")]
        self._bucket.delete([*names, *self._growing.followers(prefix)])

    @contextmanager
    def _replacing(self, key: str) -> Iterator[None]:
        """Remove what follows the object of `key` once the block has replaced it."""
        old = self._growing.followers(key)
        yield
        self._bucket.delete(old)

    def _missing(self, key: str) -> ArtifactMissingError:
        return ArtifactMissingError(f"There are no bytes under '{key}'.")

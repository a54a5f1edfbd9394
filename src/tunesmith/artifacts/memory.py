"""Artifacts in memory: the fake for tests, which passes the same contract tests as the disk."""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tunesmith.artifacts.protocol import ArtifactWriter, checked_key
from tunesmith.domain.clock import Clock, SystemClock
from tunesmith.domain.errors import ArtifactMissingError


class MemoryArtifacts:
    """Keeps bytes in a dictionary; `fetch_folder` writes them to a temporary folder."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Start empty, and date what is written by `clock`, by default the machine's."""
        self._clock = clock or SystemClock()
        self._bytes: dict[str, bytes] = {}
        # In their order, so that a folder is found among very many.
        self._keys: list[str] = []
        self._written_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes | Iterable[bytes]) -> int:
        """Store `data` under `key`; see `Artifacts.put`."""
        content = data if isinstance(data, bytes) else b"".join(data)
        if checked_key(key) not in self._bytes:
            insort(self._keys, key)
        self._bytes[key] = content
        self._written_at[key] = self._clock.now()
        return len(content)

    @contextmanager
    def writer(self) -> Iterator[ArtifactWriter]:
        """Yield a writer; see `Artifacts.writer`."""
        yield _MemoryWriter(self)

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`; see `Artifacts.get`."""
        try:
            return self._bytes[checked_key(key)]
        except KeyError:
            raise ArtifactMissingError(f"There are no bytes under '{key}'.") from None

    def open(self, key: str) -> BinaryIO:
        """Open the bytes under `key`; see `Artifacts.open`."""
        return io.BytesIO(self.get(key))

    def append(self, key: str, data: bytes) -> None:
        """Add `data` behind what `key` holds; see `Artifacts.append`."""
        self.put(key, self._bytes.get(checked_key(key), b"") + data)

    def tail(self, key: str, offset: int) -> bytes:
        """Return the bytes from `offset` on; see `Artifacts.tail`."""
        return self._bytes.get(checked_key(key), b"")[offset:]

    def exists(self, key: str) -> bool:
        """Tell whether `key` holds bytes."""
        return checked_key(key) in self._bytes

    def list(self, prefix: str) -> list[str]:
        """Return all keys below `prefix`, sorted."""
        first = bisect_left(self._keys, f"{checked_key(prefix)}/")
        # "0" is the character behind "/".
        return self._keys[first : bisect_left(self._keys, f"{prefix}0", lo=first)]

    def written_at(self, key: str) -> float:
        """Return when the bytes under `key` were written; see `Artifacts.written_at`."""
        self.get(key)
        return self._written_at[key]

    def copy(self, source: str, target: str) -> None:
        """Make `target` hold what `source` holds; see `Artifacts.copy`."""
        self.put(target, self.get(source))

    def delete(self, key: str) -> None:
        """Remove `key` and everything below it; see `Artifacts.delete`."""
        own = [key] if self.exists(key) else []
        for each in own + self.list(key):
            del self._bytes[each]
            del self._keys[bisect_left(self._keys, each)]

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold the one lock that there is; see `Artifacts.locked`."""
        checked_key(key)
        with self._lock:
            yield

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty temporary folder; see `Artifacts.scratch`."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def put_folder(self, prefix: str, folder: Path) -> None:
        """Move the files of `folder` under `prefix`; see `Artifacts.put_folder`."""
        self.delete(prefix)
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        shutil.rmtree(folder)

    def fetch_folder(self, prefix: str) -> Path:
        """Write the files below `prefix` to a new folder; see `Artifacts.fetch_folder`."""
        keys = self.list(prefix)
        if not keys:
            raise ArtifactMissingError(f"There are no bytes below '{prefix}'.")
        folder = Path(tempfile.mkdtemp())
        for key in keys:
            path = folder / key.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(key))
        return folder

    def drop_unfinished(self, *, before: float) -> int:
        """Remove nothing: what is unfinished in memory ends with its writer."""
        del before
        return 0


class _MemoryWriter:
    """Gathers bytes for `artifacts`; see `ArtifactWriter`."""

    def __init__(self, artifacts: MemoryArtifacts) -> None:
        self._artifacts = artifacts
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._chunks.append(data)

    def sync(self) -> None:
        pass

    def publish(self, key: str) -> None:
        self._artifacts.put(key, self._chunks)

"""Measures how long the keeper of the bytes takes, whichever it is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from prometheus_client import Histogram

from tunesmith.artifacts.protocol import Artifacts, ArtifactWriter

SECONDS = Histogram(
    "tunesmith_artifact_seconds",
    "Seconds that calls to the keeper of files and results took.",
    ["operation"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60),
)
"""By the name of the call; `open` ends before anything is read."""


class TimedArtifacts:
    """Keeps nothing itself: each call goes on to the keeper behind it, and is measured."""

    def __init__(self, behind: Artifacts) -> None:
        """Measure the calls to `behind`."""
        self._behind = behind

    def put(self, key: str, data: bytes | Iterable[bytes]) -> int:
        """Store bytes; see `Artifacts.put`. Bytes that come as they are sent take their time."""
        with SECONDS.labels("put").time():
            return self._behind.put(key, data)

    def writer(self) -> AbstractContextManager[ArtifactWriter]:
        """Return a writer, which is not measured; see `Artifacts.writer`."""
        return self._behind.writer()

    def get(self, key: str) -> bytes:
        """Return bytes; see `Artifacts.get`."""
        with SECONDS.labels("get").time():
            return self._behind.get(key)

    def open(self, key: str) -> BinaryIO:
        """Return a stream; see `Artifacts.open`."""
        with SECONDS.labels("open").time():
            return self._behind.open(key)

    def append(self, key: str, data: bytes) -> None:
        """Add bytes; see `Artifacts.append`."""
        with SECONDS.labels("append").time():
            self._behind.append(key, data)

    def tail(self, key: str, offset: int) -> bytes:
        """Return the last bytes; see `Artifacts.tail`."""
        with SECONDS.labels("tail").time():
            return self._behind.tail(key, offset)

    def exists(self, key: str) -> bool:
        """Tell whether bytes are there; see `Artifacts.exists`."""
        with SECONDS.labels("exists").time():
            return self._behind.exists(key)

    def list(self, prefix: str) -> list[str]:
        """Return keys; see `Artifacts.list`."""
        with SECONDS.labels("list").time():
            return self._behind.list(prefix)

    def written_at(self, key: str) -> float:
        """Return when bytes were written; see `Artifacts.written_at`."""
        with SECONDS.labels("written_at").time():
            return self._behind.written_at(key)

    def copy(self, source: str, target: str) -> None:
        """Copy bytes; see `Artifacts.copy`."""
        with SECONDS.labels("copy").time():
            self._behind.copy(source, target)

    def delete(self, key: str) -> None:
        """Remove bytes; see `Artifacts.delete`."""
        with SECONDS.labels("delete").time():
            self._behind.delete(key)

    def locked(self, key: str) -> AbstractContextManager[None]:
        """Return the context of a lock, which is not measured; see `Artifacts.locked`."""
        return self._behind.locked(key)

    def scratch(self) -> AbstractContextManager[Path]:
        """Return the context of a folder, which is not measured; see `Artifacts.scratch`."""
        return self._behind.scratch()

    def put_folder(self, prefix: str, folder: Path) -> None:
        """Move files in; see `Artifacts.put_folder`."""
        with SECONDS.labels("put_folder").time():
            self._behind.put_folder(prefix, folder)

    def fetch_folder(self, prefix: str) -> Path:
        """Return a folder with files; see `Artifacts.fetch_folder`."""
        with SECONDS.labels("fetch_folder").time():
            return self._behind.fetch_folder(prefix)

    def drop_unfinished(self, *, before: float) -> int:
        """Remove what was left unfinished; see `Artifacts.drop_unfinished`."""
        with SECONDS.labels("drop_unfinished").time():
            return self._behind.drop_unfinished(before=before)

"""What every keeper of bytes can do, and which keys it takes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from tunesmith.domain.errors import ArtifactKeyError


class ArtifactWriter(Protocol):
    """Takes bytes as they come; nobody sees them before they are published, whole."""

    def write(self, data: bytes) -> None:
        """Add `data` behind what was written before. Raises `DiskFullError`."""

    def sync(self) -> None:
        """Bring what was written to the disk, so that publishing it takes but a moment."""

    def publish(self, key: str) -> None:
        """Store all that was written under `key`, replacing what was there; the last call."""


class Artifacts(Protocol):
    """Keeps bytes under keys such as `runs/ftjob-1/spec.json`; writes are whole or not at all.

    A write that finds no room on the disk raises `DiskFullError`.
    """

    def put(self, key: str, data: bytes | Iterable[bytes]) -> int:
        """Store `data` under `key`, replacing what was there; return the number of bytes."""

    def writer(self) -> AbstractContextManager[ArtifactWriter]:
        """Return a context with a writer; what it has not published is gone behind the block."""

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`. Raises `ArtifactMissingError`."""

    def open(self, key: str) -> BinaryIO:
        """Return a binary stream over the bytes under `key`. Raises `ArtifactMissingError`."""

    def append(self, key: str, data: bytes) -> None:
        """Add `data` behind what `key` holds and bring it to the disk; create it where absent.

        Where that fails, the key holds what it held before.
        """

    def tail(self, key: str, offset: int) -> bytes:
        """Return the bytes from `offset` on; nothing where the key is absent or shorter."""

    def exists(self, key: str) -> bool:
        """Tell whether `key` holds bytes."""

    def list(self, prefix: str) -> list[str]:
        """Return all keys below `prefix`, sorted."""

    def written_at(self, key: str) -> float:
        """Return when the bytes under `key` were written, in unix seconds.

        Raises `ArtifactMissingError`.
        """

    def copy(self, source: str, target: str) -> None:
        """Make `target` hold what `source` holds. Raises `ArtifactMissingError`."""

    def delete(self, key: str) -> None:
        """Remove `key` and everything below it; nothing happens where there is nothing."""

    def locked(self, key: str) -> AbstractContextManager[None]:
        """Return a context in which nobody else, in any process, has locked `key`.

        It binds only those who ask for it, waits as long as another is in it, and
        ends with the process at the latest. Other keys may have to wait as well, so
        the block is short and locks no second key.
        """

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a context with an empty folder on this node, which is gone behind the block.

        A folder that was made in it is one that `put_folder` moves without copying its files.
        """

    def put_folder(self, prefix: str, folder: Path) -> None:
        """Move the files of `folder` under `prefix`, all at once, replacing what was there."""

    def fetch_folder(self, prefix: str) -> Path:
        """Return a folder on this node with the files below `prefix`, to be read only.

        Raises `ArtifactMissingError` where there are none.
        """

    def drop_unfinished(self, *, before: float) -> int:
        """Remove what killed writers left unfinished; return how many writes that were.

        What changed at or after `before`, in unix seconds, may still be written and stays.
        """


def checked_key(key: str) -> str:
    """Return `key` if it is a plain relative path; raises `ArtifactKeyError` otherwise.

    A first part that begins with a dot is the keeper's own, and refused as well.
    """
    parts = key.split("/")
    plain = key.isprintable() and "\\" not in key and not key.startswith(".")
    if not plain or any(part in ("", ".", "..") for part in parts):
        raise ArtifactKeyError(f"{key!a} is not a plain relative path.")
    return key

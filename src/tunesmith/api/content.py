"""Bytes on their way to their place, hashed while they come; the same content lies there once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tunesmith.artifacts.protocol import Artifacts, ArtifactWriter
from tunesmith.domain.files import content_key


class Content:
    """What a request brings, or what is made of its parts: written aside, counted and hashed."""

    def __init__(self, writer: ArtifactWriter) -> None:
        """Begin with nothing; `writer` takes what comes."""
        self._writer = writer
        self._digest = hashlib.sha256()
        self.bytes = 0
        """How many bytes have come."""

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what has come, in hex."""
        return self._digest.hexdigest()

    @property
    def key(self) -> str:
        """Return the key that all files with this content share."""
        return content_key(self.sha256)

    def write(self, *pieces: bytes) -> None:
        """Add `pieces` behind what has come. Raises `DiskFullError`."""
        data = b"".join(pieces)
        self._digest.update(data)
        self._writer.write(data)
        self.bytes += len(data)

    def publish(self, key: str) -> None:
        """Bring all to the disk and store it under `key`."""
        self._writer.publish(key)

    @contextmanager
    def in_place(self, artifacts: Artifacts) -> Iterator[None]:
        """Store the content under its shared key, for the block to record a file with it.

        Nobody deletes it meanwhile. Where the block fails, it goes again, unless it
        was there before.
        """
        # The slow part comes first: others wait for the lock.
        self._writer.sync()
        with artifacts.locked(self.key), ExitStack() as undo:
            if not artifacts.exists(self.key):
                undo.callback(artifacts.delete, self.key)
            self._writer.publish(self.key)
            yield
            undo.pop_all()

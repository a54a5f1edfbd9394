"""Bytes on their way to their place, hashed while they come."""

from __future__ import annotations

import hashlib

from tunesmith.artifacts.protocol import ArtifactWriter


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

    def write(self, *pieces: bytes) -> None:
        """Add `pieces` behind what has come. Raises `DiskFullError`."""
        data = b"".join(pieces)
        self._digest.update(data)
        self._writer.write(data)
        self.bytes += len(data)

    def publish(self, key: str) -> None:
        """Bring all to the disk and store it under `key`."""
        self._writer.publish(key)

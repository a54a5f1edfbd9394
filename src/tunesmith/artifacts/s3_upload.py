"""Bytes on their way to an object whose size nobody knows yet."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from tunesmith.artifacts.protocol import checked_key
from tunesmith.artifacts.s3_bucket import PART, Bucket, Found

ASIDE = ".aside"
"""Where lie objects that have no key yet."""


class Upload:
    """Sends what it is given to the object `name` in parts; nobody sees it before `finish`."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        """Send nothing yet."""
        self._bucket = bucket
        self.name = name
        """The object's name in the bucket."""
        self.size = 0
        """Bytes that were given so far."""
        self._rest = bytearray()
        self._id: str | None = None
        self._etags: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether there was enough for a part, so that something was sent."""
        return self._id is not None

    def add(self, data: bytes) -> None:
        """Add `data`, and send what makes a whole part."""
        self._rest += data
        self.size += len(data)
        while len(self._rest) >= PART:
            self._send(bytes(self._rest[:PART]))
            del self._rest[:PART]

    def rest(self) -> bytes:
        """Return what was given and not sent."""
        return bytes(self._rest)

    def finish(self) -> None:
        """Let the object be what was given."""
        if self._id is None:
            self._bucket.put(self.name, self.rest())
            return
        if self._rest:
            self._send(self.rest())
        self._bucket.complete(self.name, self._id, etags=self._etags)
        self._id = None

    def abort(self) -> None:
        """Forget what was sent and not finished."""
        if self._id is not None:
            self._bucket.abort(self._bucket.path(self.name), self._id)
            self._id = None

    def _send(self, part: bytes) -> None:
        if self._id is None:
            self._id = self._bucket.begin(self.name)
        number = len(self._etags) + 1
        self._etags.append(self._bucket.part(self.name, self._id, number=number, data=part))


class S3Writer:
    """Sends to an object aside, which gets its place once the key is known; see `ArtifactWriter`.

    What is smaller than a part waits in memory and is stored under the key at once.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        put: Callable[[str, bytes], object],
        place: Callable[[Found, str], None],
    ) -> None:
        """Send nothing yet; `put` stores bytes under a key, `place` copies an object to one."""
        self._bucket = bucket
        self._put = put
        self._place = place
        self._upload = Upload(bucket, f"{ASIDE}/{uuid.uuid4().hex}")

    def write(self, data: bytes) -> None:
        """Add `data`; see `ArtifactWriter.write`."""
        self._upload.add(data)

    def sync(self) -> None:
        """Do nothing: whole parts are with the server already."""

    def publish(self, key: str) -> None:
        """Store all under `key`; see `ArtifactWriter.publish`."""
        if not self._upload.begun:
            self._put(key, self._upload.rest())
            return
        self._upload.finish()
        found = self._bucket.head(self._upload.name)
        if found is None:
            raise FileNotFoundError(f"What was written for '{key}' was given up meanwhile.")
        self._place(found, checked_key(key))

    def close(self) -> None:
        """Remove what lies aside."""
        begun = self._upload.begun
        self._upload.abort()
        if begun or self._upload.size >= PART:
            self._bucket.delete([self._upload.name])

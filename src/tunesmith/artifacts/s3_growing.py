"""Keys that grow, on a store whose objects do not.

The object of such a key is replaced by a longer one with each `append`, on the condition that
nobody else did so meanwhile, until it has `FULL` bytes. What follows goes into further objects,
`.more/<key>/<mark>/<number>`, each of which is filled likewise. The first one's metadata hold the
mark, so that whatever replaces it drops the others with the same write. Most events files, which
are asked for several times a second, are one object, that costs one request to look at.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from tunesmith.artifacts.s3_bucket import Bucket, ConditionFailedError, Found
from tunesmith.artifacts.s3_stream import Segment
from tunesmith.domain.errors import ArtifactMissingError

FULL = 256 << 10
"""Bytes behind which an object that grows is followed by another."""

_MARK = "more"
_WRITE = "append"
_TRIES = 100
"""How often an append is tried while others are quicker."""


@dataclass(frozen=True)
class _End:
    """The object that the next bytes go to."""

    name: str
    content: bytes
    etag: str | None
    """Its version; `None` where it is not there yet."""
    mark: str


class Growing:
    """Adds to keys of `bucket`, and finds what was added."""

    def __init__(self, bucket: Bucket) -> None:
        """Write nothing yet."""
        self._bucket = bucket

    def append(self, key: str, data: bytes) -> None:
        """Add `data` behind the bytes under `key`, whole, whoever else does the same."""
        write = uuid.uuid4().hex
        for _ in range(_TRIES):
            try:
                end = self._end(key)
            except (ConditionFailedError, ArtifactMissingError):
                # It was replaced between two looks.
                continue
            metadata = {_MARK: end.mark, _WRITE: write}
            content, new = end.content + data, end.etag is None
            try:
                self._bucket.put(end.name, content, metadata=metadata, match=end.etag, new=new)
            except (ConditionFailedError, ArtifactMissingError):
                # Of a request that was tried twice, the first may have done it unheard.
                found = self._bucket.head(end.name)
                if found is not None and found.metadata.get(_WRITE) == write:
                    return
            else:
                return
        raise OSError(f"'{key}' could not be added to: others did so all the time.")

    def behind(self, key: str, first: Found) -> list[Segment]:
        """Return what follows the object `first` of `key`."""
        mark = first.metadata.get(_MARK)
        if mark is None or first.size < FULL:
            return []
        return [
            Segment(found.name, found.size, None)
            for found in self._bucket.list(f"{_folder(key)}/{mark}/")
        ]

    def grows(self, first: Found) -> bool:
        """Tell whether the object of a key is one that was added to."""
        return _MARK in first.metadata

    def followers(self, key: str) -> list[str]:
        """Return the names of all objects that follow those of `key` and of the keys below it."""
        return [found.name for found in self._bucket.list(f"{_folder(key)}/")]

    def _end(self, key: str) -> _End:
        try:
            content, first = self._bucket.get(key, end=FULL)
        except ArtifactMissingError:
            return _End(key, b"", None, uuid.uuid4().hex)
        mark = first.metadata.get(_MARK)
        if first.size < FULL:
            return _End(key, content, first.etag, mark or uuid.uuid4().hex)
        if mark is None:
            # It was put whole: from now on it has followers, of which its metadata must tell.
            mark = uuid.uuid4().hex
            self._bucket.copy(first, key, metadata={_MARK: mark})
        last = self._last(f"{_folder(key)}/{mark}/")
        if last is not None and last.size < FULL:
            content, last = self._bucket.get(last.name)
            return _End(last.name, content, last.etag, mark)
        number = 1 if last is None else int(last.name.rpartition("/")[2]) + 1
        return _End(f"{_folder(key)}/{mark}/{number:08d}", b"", None, mark)

    def _last(self, below: str) -> Found | None:
        return max(self._bucket.list(below), key=lambda found: found.name, default=None)


def _folder(key: str) -> str:
    return f".more/{key}"

"""A lock that is an object: whoever creates it first has it, for as long as he renews it."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from tunesmith.artifacts.s3_bucket import Bucket, ConditionFailedError, Found
from tunesmith.domain.errors import ArtifactsUnavailableError

LEASE = 30.0
"""Seconds without renewal behind which a lock is anybody's, by the server's clock alone."""

_RENEWAL = 8.0
"""Seconds between two renewals."""

_LONGEST_PAUSE = 0.5
"""Seconds between two looks at a lock that another has."""

_log = logging.getLogger(__name__)


class Lock:
    """One holding of the lock of `key`."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        """Hold nothing yet."""
        self._bucket = bucket
        self._name = f".locks/{hashlib.sha256(key.encode()).hexdigest()}"
        self._etag = ""
        self._renewed_at = 0.0
        self._ended = threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait until it is ours, and hold it through the block."""
        pause = 0.01
        while not self._taken():
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  no secret hangs on it
            pause = min(2 * pause, _LONGEST_PAUSE)
        renewing = threading.Thread(target=self._keep, name="artifact lock", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            self._ended.set()
            renewing.join()
            self._release()

    def _taken(self) -> bool:
        """Take the lock where nobody has it, or its holder has not renewed it for long."""
        try:
            self._write(new=True)
        except ConditionFailedError:
            pass
        else:
            return True
        found = self._bucket.head(self._name)
        if found is None or not _expired(found):
            return False
        try:
            self._write(match=found.etag)
        except ConditionFailedError:
            return False
        return True

    def _write(self, *, match: str | None = None, new: bool = False) -> None:
        # Each writing has another content, so that each has another ETag.
        mark, began = uuid.uuid4().hex, time.monotonic()
        try:
            self._etag = self._bucket.put(
                self._name, mark.encode(), metadata={"mark": mark}, match=match, new=new
            )
        except ConditionFailedError:
            # Of a request that was tried twice, the first may have done it unheard.
            found = self._bucket.head(self._name)
            if found is None or found.metadata.get("mark") != mark:
                raise
            self._etag = found.etag
        self._renewed_at = began

    def _keep(self) -> None:
        while not self._ended.wait(_RENEWAL):
            try:
                self._write(match=self._etag)
            except ConditionFailedError:
                _log.warning("A lock of the artifacts was lost: it was not renewed in time.")
                self._renewed_at = 0.0
                return
            except ArtifactsUnavailableError as error:
                _log.warning("A lock of the artifacts could not be renewed: %s", error)

    def _release(self) -> None:
        # One that may be another's by now is left to its end.
        if time.monotonic() - self._renewed_at < LEASE / 2:
            self._bucket.delete([self._name])


def _expired(found: Found) -> bool:
    return found.now - found.written_at > LEASE

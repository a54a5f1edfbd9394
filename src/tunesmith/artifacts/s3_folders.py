"""Folders that appear all at once, on a store that knows objects alone.

The files are stored as `.files/<mark>/<name>` first. Then one small object, the folder's list,
`.folders/<prefix>/.list`, names the mark and the files: readers go by it. What is written or
dropped is noted under `.pending/` before, so that what a killed writer leaves behind is found.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.artifacts.s3_bucket import Bucket, ConditionFailedError
from tunesmith.domain.errors import ArtifactMissingError, ArtifactsUnavailableError

_PENDING = ".pending"


@dataclass(frozen=True)
class Folder:
    """What was stored under a prefix all at once."""

    prefix: str
    """Where its files are seen."""
    mark: str
    """Where they lie."""
    files: frozenset[str]
    """Their names, paths below the prefix."""
    etag: str
    """The version of its list."""

    def object_of(self, name: str) -> str:
        """Return the name of the object that holds the file `name`."""
        return f".files/{self.mark}/{name}"


class Folders:
    """Stores and finds folders in `bucket`."""

    def __init__(self, bucket: Bucket) -> None:
        """Write nothing yet."""
        self._bucket = bucket

    def at(self, prefix: str) -> Folder | None:
        """Return the folder that was stored under `prefix` itself; `None` where none was."""
        try:
            content, found = self._bucket.get(_list_of(prefix))
        except ArtifactMissingError:
            return None
        told = json.loads(content)
        return Folder(prefix, told["mark"], frozenset(told["files"]), found.etag)

    def around(self, key: str) -> Folder | None:
        """Return the folder one of whose files `key` is; `None` where it is none's."""
        parts = key.split("/")
        for count in range(len(parts) - 1, 0, -1):
            folder = self.at("/".join(parts[:count]))
            if folder is not None and "/".join(parts[count:]) in folder.files:
                return folder
        return None

    def touching(self, prefix: str) -> Iterator[Folder]:
        """Yield the folders that may have files below `prefix`: in it, at it and around it."""
        parts = prefix.split("/")
        around = ["/".join(parts[:count]) for count in range(1, len(parts))]
        below = [
            found.name.removeprefix(".folders/").removesuffix("/.list")
            for found in self._bucket.list(f".folders/{prefix}/")
        ]
        for each in (*around, *below):
            folder = self.at(each)
            if folder is not None:
                yield folder

    def store(self, prefix: str, folder: Path) -> str:
        """Store the files of `folder` and return their mark, by which `show` makes them seen."""
        mark = uuid.uuid4().hex
        self._note(prefix, mark)
        for path in _files(folder):
            self._bucket.upload(path, f".files/{mark}/{path.relative_to(folder).as_posix()}")
        return mark

    def show(self, prefix: str, mark: str, *, files: list[str]) -> None:
        """Let the stored files be what is under `prefix`, and drop the folder that was there."""
        content = json.dumps({"mark": mark, "files": sorted(files)}).encode()
        old = self.at(prefix)
        while old is None or old.mark != mark:
            etag = None if old is None else old.etag
            try:
                with self._dropping(old):
                    self._bucket.put(_list_of(prefix), content, match=etag, new=old is None)
                break
            except (ConditionFailedError, ArtifactMissingError):
                # Another was quicker, or this very request was when it was tried before.
                old = self.at(prefix)
        self._bucket.delete([_note_of(mark)])

    def drop(self, folder: Folder) -> None:
        """Remove `folder`, out of sight first."""
        with self._dropping(folder):
            self._bucket.delete([_list_of(folder.prefix)])

    def leave_out(self, folder: Folder, name: str) -> None:
        """Remove the file `name` of `folder`."""
        files = sorted(folder.files - {name})
        content = json.dumps({"mark": folder.mark, "files": files}).encode()
        try:
            self._bucket.put(_list_of(folder.prefix), content, match=folder.etag)
        except (ConditionFailedError, ArtifactMissingError):
            raise ArtifactsUnavailableError(
                f"'{folder.prefix}' was replaced while a file of it was deleted. Delete it again."
            ) from None
        self._bucket.delete([folder.object_of(name)])

    def drop_unfinished(self, *, before: float) -> int:
        """Remove the files of no folder whose writing or dropping a killed process began."""
        count = 0
        for note in list(self._bucket.list(f"{_PENDING}/")):
            if note.written_at >= before:
                continue
            mark = note.name.removeprefix(f"{_PENDING}/")
            content, _ = self._bucket.get(note.name)
            folder = self.at(content.decode())
            if folder is None or folder.mark != mark:
                self._drop_files(mark)
                count += 1
            self._bucket.delete([note.name])
        return count

    @contextmanager
    def _dropping(self, folder: Folder | None) -> Iterator[None]:
        """Remove the files of `folder` behind the block, which takes them out of sight."""
        if folder is None:
            yield
            return
        self._note(folder.prefix, folder.mark)
        yield
        self._drop_files(folder.mark)
        self._bucket.delete([_note_of(folder.mark)])

    def _drop_files(self, mark: str) -> None:
        self._bucket.delete([found.name for found in self._bucket.list(f".files/{mark}/")])

    def _note(self, prefix: str, mark: str) -> None:
        self._bucket.put(_note_of(mark), prefix.encode())


def file_names(folder: Path) -> list[str]:
    """Return the names of all files of `folder`, paths below it."""
    return [path.relative_to(folder).as_posix() for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _list_of(prefix: str) -> str:
    return f".folders/{prefix}/.list"


def _note_of(mark: str) -> str:
    return f"{_PENDING}/{mark}"

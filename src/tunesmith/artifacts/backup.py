"""A backup's folder: copies of artifacts, while others write them, with a manifest of all.

<backup>/
  manifest.json        sizes and SHA-256 of all that follows
  tunesmith.db         the database
  settings.toml        the settings, where the data folder had some
  artifacts/<key>      files, parts of uploads, runs, results, exports
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from tunesmith.artifacts.protocol import Artifacts, checked_key
from tunesmith.artifacts.runs import RunDirectory, events_in
from tunesmith.domain.backups import BackupEntry, Manifest, Named
from tunesmith.domain.disk import Disk, naming_full_disk
from tunesmith.domain.errors import ArtifactMissingError, SettingsError

MANIFEST = "manifest.json"
"""The file of a backup that is written last."""

DATABASE = "tunesmith.db"
"""The copy of the database."""

SETTINGS = "settings.toml"
"""The copy of the settings file."""

_BYTES = "artifacts"
_CHUNK = 1024 * 1024
_WORTH_A_LINK = 4096
"""Bytes from which on the same content is kept once, as several links."""
_TRIES = 5
"""How often a run is copied anew whose checkpoints go while they are copied."""
_SHOWN = 5
"""Faults of a backup that its refusal names."""
_CHECKPOINT = re.compile(r"^(?:runs/[^/]+/checkpoints/step-|output/[^/]+/checkpoint-)(\d+)/")


class Backup:
    """Copies artifacts into a folder, pass after pass, until it holds what a database names."""

    def __init__(
        self, folder: Path, artifacts: Artifacts, *, disk: Disk, since: EarlierBackup | None
    ) -> None:
        """Copy from `artifacts` into `folder`, as long as `disk` has room.

        What has not changed since the backup `since` is linked to it, not copied.
        """
        self.database = folder / DATABASE
        """Where the copy of the database is put."""
        self._folder = folder
        self._artifacts = artifacts
        self._disk = disk
        self._since = since
        self._entries: dict[str, BackupEntry] = {}
        self._contents: dict[str, str] = {}

    @naming_full_disk()
    def take(self, named: Named) -> set[str]:
        """Copy what `named` says to be there; return what of it is not.

        What an earlier pass copied is not copied again unless it was written since.
        """
        before, self._entries = self._entries, {}
        missing = {key for key in named.keys if not self._copied(key, before)}
        for job_id in named.ended:
            below = (f"runs/{job_id}", f"output/{job_id}")
            missing |= {key for key in self._listed(*below) if not self._copied(key, before)}
        for job_id in named.open:
            missing |= self._take_open(job_id, before)
        for export_id in named.exports:
            # One that is being made may go on; what has been handed out is named by its keys.
            for key in self._listed(f"exports/{export_id}"):
                self._copied(key, before)
        held = {prefix for key in self._entries for prefix in _prefixes(key)}
        missing |= named.prefixes - held
        return missing

    @naming_full_disk()
    def finish(
        self, *, settings: bytes | None, version: str, created_at: int, missing: Iterable[str]
    ) -> Manifest:
        """Write the settings and the manifest, and return that."""
        self._prune()
        if settings is not None:
            _write_private(self._folder / SETTINGS, settings)
        manifest = Manifest(
            version=version,
            created_at=created_at,
            database=entry_of(self.database),
            settings=None if settings is None else entry_of(self._folder / SETTINGS),
            artifacts=dict(sorted(self._entries.items())),
            missing=tuple(sorted(missing)),
        )
        _write_private(self._folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
        return manifest

    def _prune(self) -> None:
        """Remove what passes left behind: what went meanwhile, and folders without a file."""
        root = self._folder / _BYTES
        for path in sorted(root.rglob("*"), reverse=True):
            if path.is_dir():
                with suppress(OSError):
                    path.rmdir()
            elif path.relative_to(root).as_posix() not in self._entries:
                path.unlink()

    def _listed(self, *prefixes: str) -> list[str]:
        return [key for prefix in prefixes for key in self._artifacts.list(prefix)]

    def _take_open(self, job_id: str, before: dict[str, BackupEntry]) -> set[str]:
        """Copy a run that may be writing: its events, and then no checkpoint beyond them.

        Whoever goes on from it finds what a run finds that was killed. Returns where its result
        would be, if it had one when the events were read, and that was deleted since.
        """
        run = RunDirectory(self._artifacts, job_id)
        events = f"{run.prefix}/events"
        for _ in range(_TRIES):
            for key in [key for key in self._entries if key.startswith(_below(run))]:
                before = before | {key: self._entries.pop(key)}
            # First, and always anew: an outcome is told after what it speaks of was written.
            told, succeeded = self._told(events) if self._copied(events, {}) else (0, False)
            keys = [key for key in self._listed(run.prefix, run.output) if key != events]
            if self._take_run(keys, told=told, before=before):
                break
        result = f"{run.output}/"
        there = any(key.startswith(result) for key in self._entries)
        return {run.output} if succeeded and not there else set()

    def _take_run(self, keys: Iterable[str], *, told: int, before: dict[str, BackupEntry]) -> bool:
        """Copy `keys`; tell whether a checkpoint up to step `told` stayed, if there was any."""
        steps: dict[int, list[str]] = defaultdict(list)
        for key in keys:
            found = _CHECKPOINT.match(key)
            if found is None:
                self._copied(key, before)
            elif int(found[1]) <= told:
                steps[int(found[1])].append(key)
        whole = False
        for step in sorted(steps, reverse=True):
            if all(self._copied(key, before) for key in steps[step]):
                whole = True
            else:
                self._forget(steps[step])
        return whole or not steps

    def _forget(self, keys: Iterable[str]) -> None:
        """Take `keys` out again: a checkpoint is whole or not there."""
        for key in keys:
            self._entries.pop(key, None)
            self._path(key).unlink(missing_ok=True)

    def _told(self, key: str) -> tuple[int, bool]:
        """Return the last step that the copied events tell of, and whether they tell of success."""
        events = events_in(self._path(key).read_bytes())
        last = max((each.metrics.step for each in events if each.metrics), default=0)
        return last, any(each.outcome and not each.outcome.error for each in events)

    def _copied(self, key: str, before: dict[str, BackupEntry]) -> bool:
        """Copy `key` unless it is here as it is now; tell whether it is there at all."""
        if key in self._entries:
            return True
        try:
            written_at = self._artifacts.written_at(key)
            known = before.get(key)
            if known is None or known.written_at != written_at:
                known = self._linked(key, written_at) or self._copy(key, written_at)
        except ArtifactMissingError:
            self._path(key).unlink(missing_ok=True)
            return False
        self._entries[key] = known
        return True

    def _linked(self, key: str, written_at: float) -> BackupEntry | None:
        """Link `key` to the earlier backup if it is the same there; else return `None`."""
        if self._since is None:
            return None
        entry = self._since.manifest.artifacts.get(key)
        # Where its key is its hash, the same key is the same content whenever it was written.
        same = entry is not None and (entry.written_at == written_at or key.endswith(entry.sha256))
        if entry is None or not same:
            return None
        path, earlier = self._path(key), self._since.path(key)
        path.unlink(missing_ok=True)
        try:
            if earlier.stat().st_size != entry.bytes:
                return None
            os.link(earlier, path)
        except OSError:
            # Gone there, or on another file system.
            return None
        return entry

    def _copy(self, key: str, written_at: float) -> BackupEntry:
        path = self._path(key)
        digest, size = hashlib.sha256(), 0
        with self._artifacts.open(key) as source, _private(path) as file:
            while chunk := source.read(_CHUNK):
                self._disk.check(len(chunk))
                digest.update(chunk)
                file.write(chunk)
                size += len(chunk)
        sha256 = digest.hexdigest()
        if size >= _WORTH_A_LINK:
            self._keep_once(key, sha256)
        return BackupEntry(bytes=size, sha256=sha256, written_at=written_at)

    def _keep_once(self, key: str, sha256: str) -> None:
        """Link `key` to what has the same content, such as a checkpoint that is handed out."""
        other = self._contents.setdefault(sha256, key)
        if other != key and other in self._entries:
            path = self._path(key)
            with suppress(OSError):
                os.link(self._path(other), path.with_name(f"{path.name}.link"))
                path.with_name(f"{path.name}.link").replace(path)
        else:
            self._contents[sha256] = key

    def _path(self, key: str) -> Path:
        path = self._folder / _BYTES / checked_key(key)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path


class EarlierBackup:
    """A backup that was finished."""

    def __init__(self, folder: Path) -> None:
        """Read the manifest of the backup in `folder`. Raises `SettingsError` where it has none."""
        self._folder = folder
        try:
            content = (folder / MANIFEST).read_bytes()
            self.manifest = Manifest.model_validate_json(content)
            """What lies in it."""
        except OSError:
            raise SettingsError(
                f"'{folder}' is no finished backup: it has no '{MANIFEST}' that can be read. Name "
                "the folder that `tunesmith backup` has made."
            ) from None
        except ValidationError:
            raise SettingsError(
                f"The '{MANIFEST}' of the backup '{folder}' cannot be read by this version. Use "
                "the one that made the backup, or a newer one."
            ) from None
        self.database = folder / DATABASE
        """The copy of the database."""

    @property
    def settings(self) -> bytes | None:
        """Return the settings file, where there was one."""
        return None if self.manifest.settings is None else (self._folder / SETTINGS).read_bytes()

    def path(self, key: str) -> Path:
        """Return where the copy of the artifact `key` lies."""
        return self._folder / _BYTES / checked_key(key)

    def verify(self) -> None:
        """Raise `SettingsError` that names the first files that are not as the manifest says."""
        faults = list(islice(self._faults(), _SHOWN + 1))
        if faults:
            more = ", and more" if len(faults) > _SHOWN else ""
            raise SettingsError(
                f"The backup '{self._folder}' is not as it was made: "
                f"{'; '.join(faults[:_SHOWN])}{more}. Nothing was restored; take another backup."
            )

    def put_into(self, artifacts: Artifacts) -> None:
        """Put all artifacts into `artifacts`. Raises `DiskFullError`.

        Raises `SettingsError` where one changes just now.
        """
        first: dict[str, str] = {}
        for key, entry in self.manifest.artifacts.items():
            same = first.setdefault(entry.sha256, key)
            if same != key and entry.bytes >= _WORTH_A_LINK:
                artifacts.copy(same, key)
            elif artifacts.put(key, _chunks(self.path(key))) != entry.bytes:
                raise SettingsError(f"The backup's file '{key}' changes while it is restored.")

    def _faults(self) -> Iterator[str]:
        named = {self.database: self.manifest.database}
        if self.manifest.settings is not None:
            named[self._folder / SETTINGS] = self.manifest.settings
        named |= {self.path(key): entry for key, entry in self.manifest.artifacts.items()}
        for path, entry in named.items():
            shown = path.relative_to(self._folder).as_posix()
            try:
                found = entry_of(path)
            except OSError as error:
                yield f"'{shown}' cannot be read ({error.strerror})"
                continue
            if (found.bytes, found.sha256) != (entry.bytes, entry.sha256):
                yield f"'{shown}' has other content"


def entry_of(path: Path) -> BackupEntry:
    """Return what a manifest says of the file `path`. Raises `OSError` where it cannot be read."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return BackupEntry(bytes=size, sha256=digest.hexdigest())


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _below(run: RunDirectory) -> tuple[str, str]:
    return f"{run.prefix}/", f"{run.output}/"


def _prefixes(key: str) -> Iterator[str]:
    """Yield all prefixes below which `key` lies."""
    parts = key.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _private(path: Path) -> BinaryIO:
    """Open `path` anew for writing; nobody but its owner may read it."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _write_private(path: Path, content: bytes) -> None:
    with _private(path) as file:
        file.write(content)

"""The SQL of files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from sqlalchemy import Connection, Select, delete, exists, or_, select

from tunesmith.domain.files import File, Purpose
from tunesmith.domain.values import Page
from tunesmith.store import rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import behind, insert_values, place_of, read_all, read_one, read_page
from tunesmith.store.room import Room
from tunesmith.store.scope import needed_files
from tunesmith.store.tables import FILES, JOBS


class SqlFiles(Room):
    """Each method does what `FileStore` says of it, in one transaction."""

    def add_file(self, file: File) -> None:
        """Add a file; see `Store.add_file`."""
        with writing(self._engine) as connection:
            self._check_room(connection, file.bytes)
            insert_values(connection, FILES, self._owned(file))

    def file(self, file_id: str) -> File:
        """Return the file of that id; see `Store.file`."""
        with reading(self._engine) as connection:
            return self._file(connection, file_id)

    def newest_file_named(self, filename: str) -> File:
        """Return the newest training file of that name; see `Store.newest_file_named`."""
        named = select(FILES).where(self._there(), FILES.c.filename == filename)
        named = named.order_by(FILES.c.seq.desc()).limit(1)
        fit = named.where(FILES.c.purpose == Purpose.FINE_TUNE)
        with reading(self._engine) as connection:
            for file in read_all(connection, fit, kind=File):
                return file
            missing = rules.no_file_named(filename)
            return read_one(connection, named, kind=File, missing=missing)

    def list_files(
        self,
        *,
        purpose: Purpose | None,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> Page[File]:
        """Return files in the order of their creation; see `Store.list_files`."""
        listed = self._there()
        if purpose is not None:
            listed &= FILES.c.purpose == purpose
        with reading(self._engine) as connection:
            place = place_of(connection, FILES, after=after, seen=listed)
            query = behind(select(FILES).where(listed), FILES.c.seq, place=place, order=order)
            return read_page(connection, query, kind=File, limit=limit)

    def deletable_file(self, file_id: str) -> File:
        """Return the file if it may be deleted; see `Store.deletable_file`."""
        with reading(self._engine) as connection:
            return self._deletable_file(connection, file_id)

    def delete_file(self, file_id: str) -> bool:
        """Remove the file; see `Store.delete_file`."""
        with writing(self._engine) as connection:
            return remove(connection, self._deletable_file(connection, file_id))

    def expired_files(self) -> list[File]:
        """Return the files that have expired; see `Store.expired_files`."""
        with reading(self._engine) as connection:
            return read_all(connection, self._expired(), kind=File)

    def drop_expired_file(self, file_id: str) -> bool:
        """Remove a file that has expired; see `Store.drop_expired_file`."""
        query = self._expired().where(FILES.c.id == file_id)
        missing = rules.no_file(file_id)
        with writing(self._engine) as connection:
            return remove(connection, read_one(connection, query, kind=File, missing=missing))

    def keys_with_files(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` under which a file lies; see `Store.keys_with_files`."""
        with reading(self._engine) as connection:
            return set(connection.scalars(select(FILES.c.key).where(FILES.c.key.in_(keys))))

    def _expired(self) -> Select[Any]:
        expired = FILES.c.expires_at <= self._now()
        return select(FILES).where(self._mine(FILES), expired, ~needed_files())

    def _file(self, connection: Connection, file_id: str) -> File:
        query = select(FILES).where(self._there(), FILES.c.id == file_id)
        return read_one(connection, query, kind=File, missing=rules.no_file(file_id))

    def _deletable_file(self, connection: Connection, file_id: str) -> File:
        file = self._file(connection, file_id)
        needs = or_(JOBS.c.training_file == file_id, JOBS.c.validation_file == file_id)
        unfinished = JOBS.c.status.in_(rules.UNFINISHED)
        needing = select(JOBS.c.id).where(unfinished & needs).order_by(JOBS.c.seq)
        if job_ids := connection.scalars(needing).all():
            raise rules.file_in_use(file_id, job_ids)
        return file


def remove(connection: Connection, file: File) -> bool:
    """Remove the row of `file`, and tell whether others have the same key."""
    connection.execute(delete(FILES).where(FILES.c.id == file.id))
    return bool(connection.scalar(select(exists().where(FILES.c.key == file.key))))

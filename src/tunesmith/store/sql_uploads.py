"""The SQL of uploads and their parts."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from tunesmith.domain.files import File
from tunesmith.domain.uploads import Upload, UploadPart
from tunesmith.store import rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import insert_values, read_all, read_one
from tunesmith.store.room import Room
from tunesmith.store.rows import to_row
from tunesmith.store.tables import FILES, UPLOAD_PARTS, UPLOADS


class SqlUploads(Room):
    """Each method does what `UploadStore` says of it, in one transaction."""

    def add_upload(self, upload: Upload) -> None:
        """Add a pending upload; see `Store.add_upload`."""
        with writing(self._engine) as connection:
            self._check_room(connection, upload.bytes)
            insert_values(connection, UPLOADS, self._owned(upload))

    def pending_upload(self, upload_id: str) -> Upload:
        """Return the upload if it still takes parts; see `Store.pending_upload`."""
        with reading(self._engine) as connection:
            return self._pending(connection, upload_id, now=self._now())

    def add_part(self, part: UploadPart) -> None:
        """Add a part; see `Store.add_part`."""
        with writing(self._engine) as connection:
            upload = self._pending(connection, part.upload_id, now=self._now())
            rules.check_room(upload, part, there=_size_of_parts(connection, upload))
            insert_values(connection, UPLOAD_PARTS, part)

    def list_parts(self, upload_id: str) -> list[UploadPart]:
        """Return all parts of the upload; see `Store.list_parts`."""
        mine = select(UPLOADS.c.id).where(UPLOADS.c.id == upload_id, self._mine(UPLOADS))
        query = select(UPLOAD_PARTS).where(UPLOAD_PARTS.c.upload_id.in_(mine))
        with reading(self._engine) as connection:
            return read_all(connection, query.order_by(UPLOAD_PARTS.c.seq), kind=UploadPart)

    def complete_upload(self, upload_id: str, file: File) -> Upload:
        """Add the file that the upload has become; see `Store.complete_upload`."""
        with writing(self._engine) as connection:
            pending = self._pending(connection, upload_id, now=self._now())
            owned = file.model_copy(update={"project": pending.project})
            insert_values(connection, FILES, owned)
            return _end(connection, rules.completed(pending, file))

    def cancel_upload(self, upload_id: str) -> Upload:
        """Cancel the upload; see `Store.cancel_upload`."""
        with writing(self._engine) as connection:
            pending = self._pending(connection, upload_id, now=self._now())
            return _end(connection, rules.cancelled(pending))

    def _pending(self, connection: Connection, upload_id: str, *, now: int) -> Upload:
        query = select(UPLOADS).where(UPLOADS.c.id == upload_id, self._mine(UPLOADS))
        upload = read_one(connection, query, kind=Upload, missing=rules.no_upload(upload_id))
        rules.check_pending(upload, now=now)
        return upload


def _size_of_parts(connection: Connection, upload: Upload) -> int:
    parts = UPLOAD_PARTS.c.upload_id == upload.id
    # PostgreSQL adds whole numbers up to decimal ones.
    return int(connection.scalar(select(func.sum(UPLOAD_PARTS.c.bytes)).where(parts)) or 0)


def _end(connection: Connection, upload: Upload) -> Upload:
    connection.execute(update(UPLOADS).where(UPLOADS.c.id == upload.id).values(to_row(upload)))
    return upload

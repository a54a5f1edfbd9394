"""The SQL of idempotency keys: which job a request has created already."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from tunesmith.domain.idempotency import KEY_LIFE, IdempotencyKey
from tunesmith.domain.jobs import Job
from tunesmith.store import rules
from tunesmith.store.tables import IDEMPOTENCY_KEYS

_KEYS = IDEMPOTENCY_KEYS.c


def first_job(connection: Connection, key: IdempotencyKey, *, project: str, now: int) -> str | None:
    """Return the id of the job that a request with `key` has created; `None` for none.

    Raises `ConflictError` with code `idempotency_key_reused` where it asked for something else.
    """
    query = select(_KEYS.request, _KEYS.job_id).where(
        _KEYS.project == project, _KEYS.key == key.key, _KEYS.created_at > now - KEY_LIFE
    )
    found = connection.execute(query).first()
    if found is None:
        return None
    if found.request != key.request:
        raise rules.key_reused(key.key, found.job_id)
    job_id: str = found.job_id
    return job_id


def remember_key(connection: Connection, key: IdempotencyKey, *, job: Job, now: int) -> None:
    """Remember that the request with `key` has created `job`."""
    mine = (_KEYS.project == job.project) & (_KEYS.key == key.key)
    connection.execute(delete(IDEMPOTENCY_KEYS).where(mine))
    row = {"project": job.project, "job_id": job.id, "created_at": now, **key.model_dump()}
    connection.execute(insert(IDEMPOTENCY_KEYS).values(row))


def drop_old_keys(connection: Connection, *, now: int) -> int:
    """Forget the keys that have outlived their time; return how many they were."""
    old = _KEYS.created_at <= now - KEY_LIFE
    return connection.execute(delete(IDEMPOTENCY_KEYS).where(old)).rowcount

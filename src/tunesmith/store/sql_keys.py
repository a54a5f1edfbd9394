"""The SQL of projects and API keys."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, select, update

from tunesmith.domain.keys import ApiKey
from tunesmith.domain.projects import Project
from tunesmith.store import rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import insert_values, read_all, read_one
from tunesmith.store.rows import to_row
from tunesmith.store.scope import Scope
from tunesmith.store.tables import API_KEYS, PROJECTS


class SqlKeys(Scope):
    """Each method does what `KeyStore` says of it, in one transaction."""

    def add_key(self, key: ApiKey) -> None:
        """Add a key, and its project if need be; see `Store.add_key`."""
        known = select(PROJECTS.c.seq).where(PROJECTS.c.name == key.project)
        project = Project(name=key.project, created_at=key.created_at)
        with writing(self._engine) as connection:
            if connection.scalar(known) is None:
                connection.execute(insert(PROJECTS).values(to_row(project)))
            insert_values(connection, API_KEYS, key)

    def list_keys(self) -> list[ApiKey]:
        """Return all keys; see `Store.list_keys`."""
        with reading(self._engine) as connection:
            return read_all(connection, select(API_KEYS).order_by(API_KEYS.c.seq), kind=ApiKey)

    def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke the key and return it; see `Store.revoke_key`."""
        of_id = API_KEYS.c.id == key_id
        fresh = of_id & API_KEYS.c.revoked_at.is_(None)
        with writing(self._engine) as connection:
            connection.execute(update(API_KEYS).where(fresh).values(revoked_at=self._now()))
            query = select(API_KEYS).where(of_id)
            return read_one(connection, query, kind=ApiKey, missing=rules.no_key(key_id))

    def list_projects(self) -> list[Project]:
        """Return all projects; see `Store.list_projects`."""
        with reading(self._engine) as connection:
            return read_all(connection, select(PROJECTS).order_by(PROJECTS.c.seq), kind=Project)

    def set_limits(self, name: str, limits: Mapping[str, int | None]) -> Project:
        """Set limits of the project and return it; see `Store.set_limits`."""
        named = PROJECTS.c.name == name
        with writing(self._engine) as connection:
            if limits:
                connection.execute(update(PROJECTS).where(named).values(**limits))
            query = select(PROJECTS).where(named)
            return read_one(connection, query, kind=Project, missing=rules.no_project(name))

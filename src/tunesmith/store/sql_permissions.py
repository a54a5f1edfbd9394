"""The SQL of permissions: which projects may use a model of another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import ColumnElement, delete, select

from tunesmith.domain.ids import new_permission_id
from tunesmith.domain.models import Permission
from tunesmith.domain.values import Page
from tunesmith.store import model_rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import behind, insert_values, place_of, read_all, read_one, read_page
from tunesmith.store.sql_lookup import ModelLookup
from tunesmith.store.tables import PERMISSIONS


class SqlPermissions(ModelLookup):
    """Each method does what `PermissionStore` says of it, in one transaction."""

    def add_permissions(self, name: str, project_ids: Sequence[str]) -> list[Permission]:
        """Let projects use the model `name`; see `Store.add_permissions`."""
        with writing(self._engine) as connection:
            owner = self._own_model(connection, name).project
            known = {
                permission.project_id: permission
                for permission in read_all(
                    connection, select(PERMISSIONS).where(_of(name)), kind=Permission
                )
            }
            fresh = [
                Permission(
                    id=new_permission_id(),
                    model=name,
                    project_id=project_id,
                    created_at=self._now(),
                    project=owner,
                )
                for project_id in dict.fromkeys(project_ids)
                if project_id not in known
            ]
            insert_values(connection, PERMISSIONS, *fresh)
            known |= {permission.project_id: permission for permission in fresh}
            return [known[project_id] for project_id in dict.fromkeys(project_ids)]

    def list_permissions(
        self,
        name: str,
        *,
        project_id: str | None,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> Page[Permission]:
        """Return who may use the model `name`; see `Store.list_permissions`."""
        with reading(self._engine) as connection:
            self._own_model(connection, name)
            place = place_of(connection, PERMISSIONS, after=after, seen=_of(name))
            query = select(PERMISSIONS).where(_of(name))
            if project_id is not None:
                query = query.where(PERMISSIONS.c.project_id == project_id)
            query = behind(query, PERMISSIONS.c.seq, place=place, order=order)
            return read_page(connection, query, kind=Permission, limit=limit)

    def delete_permission(self, name: str, permission_id: str) -> Permission:
        """Take a permission back; see `Store.delete_permission`."""
        with writing(self._engine) as connection:
            self._own_model(connection, name)
            row = _of(name) & (PERMISSIONS.c.id == permission_id)
            missing = model_rules.no_permission(permission_id)
            found = read_one(
                connection, select(PERMISSIONS).where(row), kind=Permission, missing=missing
            )
            connection.execute(delete(PERMISSIONS).where(row))
            return found


def _of(name: str) -> ColumnElement[bool]:
    return PERMISSIONS.c.model == name

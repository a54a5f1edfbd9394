"""OpenAI's checkpoint permissions: which other projects may use a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from tunesmith.domain.models import Permission
from tunesmith.domain.projects import PROJECT_NAME
from tunesmith.domain.values import Page
from tunesmith.protocol.wire import Wire, expecting

ProjectId = Annotated[
    Annotated[str, Field(pattern=PROJECT_NAME)],
    expecting("a project's name: up to 64 letters, digits, dots, dashes and underscores"),
]
"""A project's name, which is its id."""


class CreatePermissions(Wire):
    """The request that shares a model."""

    project_ids: Annotated[list[ProjectId], Field(min_length=1, max_length=100)]
    """The projects that may use it, 1 to 100; those that may already stay as they are."""


class PermissionObject(Wire):
    """A project's permission to use a model of another one."""

    id: str
    """`cp_…`."""
    created_at: int
    """Unix seconds."""
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    """Tells the kinds of objects apart."""
    project_id: str
    """The project that may use the model."""

    @classmethod
    def to_wire(cls, permission: Permission) -> Self:
        """Return `permission` as clients see it."""
        return cls(
            id=permission.id, created_at=permission.created_at, project_id=permission.project_id
        )


class PermissionList(Wire):
    """A page of permissions."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[PermissionObject]
    """The permissions."""
    first_id: str | None
    """Id of the first, null in an empty page."""
    last_id: str | None
    """Id of the last, the next page's `after`."""
    has_more: bool
    """Whether more follow."""

    @classmethod
    def to_wire(cls, page: Page[Permission]) -> Self:
        """Return `page` as clients see it."""
        return cls.of(page.items, has_more=page.has_more)

    @classmethod
    def of(cls, permissions: Sequence[Permission], *, has_more: bool = False) -> Self:
        """Return `permissions` as clients see them."""
        data = [PermissionObject.to_wire(each) for each in permissions]
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=has_more,
        )


class PermissionDeleted(Wire):
    """The answer to a deletion."""

    id: str
    """The permission that is gone."""
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    """Tells the kinds of objects apart."""
    deleted: Literal[True] = True
    """It is gone."""

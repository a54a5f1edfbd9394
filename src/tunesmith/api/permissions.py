"""`/v1/fine_tuning/checkpoints/…/permissions`: other projects may use a tuned model or checkpoint.

`tunesmith.api.access` asks for an admin's key here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from tunesmith.api.answers import WireRoute
from tunesmith.api.body import JsonBody
from tunesmith.api.openapi import json_body
from tunesmith.api.services import Serviced
from tunesmith.protocol.permissions import CreatePermissions, PermissionDeleted, PermissionList
from tunesmith.protocol.reading import read_shape

router = APIRouter(
    route_class=WireRoute, prefix="/v1/fine_tuning/checkpoints", tags=["fine-tuning"]
)
"""The routes of this resource."""

_PERMISSIONS = "/{model:path}/permissions"


@router.post(_PERMISSIONS, openapi_extra=json_body(CreatePermissions))
def create_permissions(services: Serviced, model: str, *, body: JsonBody) -> PermissionList:
    """Let other projects retrieve a tuned model or checkpoint, and start jobs from it."""
    wanted = read_shape(CreatePermissions, body)
    return PermissionList.of(services.store.add_permissions(model, wanted.project_ids))


@router.get(_PERMISSIONS)
def list_permissions(
    services: Serviced,
    model: str,
    *,
    project_id: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    order: Annotated[
        Literal["ascending", "descending"],
        Query(description="By the time of creation: oldest or newest first."),
    ] = "descending",
) -> PermissionList:
    """List the permissions of a tuned model or checkpoint, newest first by default."""
    page = services.store.list_permissions(
        model,
        project_id=project_id,
        after=after,
        limit=limit,
        order="asc" if order == "ascending" else "desc",
    )
    return PermissionList.to_wire(page)


@router.delete(_PERMISSIONS + "/{permission_id}")
def delete_permission(services: Serviced, model: str, *, permission_id: str) -> PermissionDeleted:
    """Take a permission back; jobs that were created with it go on."""
    return PermissionDeleted(id=services.store.delete_permission(model, permission_id).id)

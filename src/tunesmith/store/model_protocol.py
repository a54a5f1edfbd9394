"""What the rooms above ask of the store about models, and about who may use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from tunesmith.domain.models import Permission, TunedModel
from tunesmith.domain.values import Page


class ModelStore(Protocol):
    """Keeps tuned models, and finds checkpoints as models."""

    def list_tuned_models(self) -> list[TunedModel]:
        """Return all tuned models, newest first."""

    def tuned_model(self, name: str) -> TunedModel:
        """Return the tuned model or checkpoint of that name, also one that the project may use."""

    def startable_model(self, name: str) -> TunedModel:
        """Return the tuned model or checkpoint of that name if a job may start from it.

        One whose deletion has begun is not found. Raises `ConflictError` with code
        `model_in_use` for a checkpoint whose own job may still drop it.
        """

    def retire_model(self, name: str) -> TunedModel:
        """Let no job start from the model of that name any more, and return it.

        So begins its deletion; a tuned model retires with its job's checkpoints.
        Raises `ConflictError` with code `model_in_use` where an unfinished job
        starts from it, or from one of those, or may go on from the checkpoint.
        """

    def delete_model(self, name: str) -> TunedModel:
        """Forget the model of that name, which has retired, and return it.

        A tuned model goes with its job's checkpoints. The caller has deleted
        their bytes.
        """


class PermissionStore(Protocol):
    """Keeps which projects may use a tuned model or checkpoint of another one.

    Only the model's own project may look and change: each method raises
    `ConflictError` with code `model_not_yours` where another one shares it.
    """

    def add_permissions(self, name: str, project_ids: Sequence[str]) -> list[Permission]:
        """Let projects use the model `name`, and return their permissions in that order.

        A project that may already keeps the permission that it has.
        """

    def list_permissions(
        self,
        name: str,
        *,
        project_id: str | None,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> Page[Permission]:
        """Return the permissions of the model `name`, optionally those of one project."""

    def delete_permission(self, name: str, permission_id: str) -> Permission:
        """Take a permission back at once, and return it. Jobs that were created go on."""

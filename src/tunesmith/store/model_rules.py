"""The refusals that concern models, checkpoints and who may use them."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.domain.errors import ConflictError, NotFoundError
from tunesmith.domain.exports import Export


def no_model(name: str) -> NotFoundError:
    """Return the error for an unknown tuned model or checkpoint."""
    return NotFoundError(
        f"The model '{name}' does not exist", param="model", code="model_not_found"
    )


def model_in_use(name: str, job_ids: Sequence[str], *, others: int) -> ConflictError:
    """Return the error for deleting a model that unfinished jobs start from.

    They are `job_ids` of the caller's own project, and `others` of other projects.
    """
    return ConflictError(
        f"The model '{name}' is what unfinished fine-tuning jobs start from: "
        f"{_named(job_ids, others=others)}. Cancel them or wait until they have ended.",
        param="model",
        code="model_in_use",
    )


def model_beneath(name: str, job_ids: Sequence[str], *, others: int) -> ConflictError:
    """Return the error for deleting a model to which adapters belong that jobs have made.

    They are `job_ids` of the caller's own project, and `others` of other projects.
    """
    return ConflictError(
        f"The model '{name}' is what adapters were tuned on, which mean nothing without it, by the "
        f"fine-tuning jobs: {_named(job_ids, others=others)}. Delete their models and checkpoints "
        "first.",
        param="model",
        code="model_in_use",
    )


def _named(job_ids: Sequence[str], *, others: int) -> str:
    return ", ".join([*job_ids, *([f"{others} of other projects"] if others else [])])


def checkpoint_in_use(name: str, job_id: str) -> ConflictError:
    """Return the error for a checkpoint that its own job may still need, or drop."""
    return ConflictError(
        f"The checkpoint '{name}' belongs to job '{job_id}', whose process may still go on from it "
        "or drop it. Wait until the job has ended, or cancel it; where it has ended, its process "
        "is gone within seconds: try again.",
        param="model",
        code="model_in_use",
    )


def foreign_model(name: str) -> ConflictError:
    """Return the error for deleting or sharing a model that another project shares."""
    return ConflictError(
        f"The model '{name}' belongs to another project, which alone can delete or share it.",
        param="model",
        code="model_not_yours",
    )


def foreign_export(name: str) -> ConflictError:
    """Return the error for exporting a model that another project shares."""
    return ConflictError(
        f"The model '{name}' belongs to another project, which lets this one use it, but alone can "
        "export it.",
        param="model",
        code="model_not_yours",
    )


def no_export(export_id: str) -> NotFoundError:
    """Return the error for an unknown export."""
    return NotFoundError(
        f"No such export: {export_id[:100]}. List them to see their ids.", param="export_id"
    )


def export_ended(export: Export) -> ConflictError:
    """Return the error for cancelling what has ended."""
    return ConflictError(
        f"Export '{export.id}' is over already: it is {export.status}.",
        param="export_id",
        code="export_ended",
    )


def export_running(export: Export) -> ConflictError:
    """Return the error for deleting an export whose process may still write."""
    return ConflictError(
        f"Export '{export.id}' is {export.status}, and its process may still write. Cancel it, and "
        "delete it some seconds later.",
        param="export_id",
        code="export_running",
    )


def model_exported(name: str, export_ids: Sequence[str]) -> ConflictError:
    """Return the error for deleting a model of which exports are being made."""
    return ConflictError(
        f"The model '{name}' is being exported: {', '.join(export_ids)}. Cancel these exports, or "
        "wait for their end.",
        param="model",
        code="model_in_use",
    )


def no_permission(permission_id: str) -> NotFoundError:
    """Return the error for an unknown permission."""
    return NotFoundError(
        f"This model has no permission with the id '{permission_id}'; list them to see their ids.",
        param="permission_id",
    )

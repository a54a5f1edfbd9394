"""What the rooms above ask of the store about exports."""

from __future__ import annotations

from typing import Protocol

from tunesmith.domain.exports import Export
from tunesmith.domain.values import Page


class ExportStore(Protocol):
    """Keeps exports of tuned models."""

    def add_export(self, export: Export) -> Export:
        """Add a queued export of the model that it names, and return it with that model's place.

        Raises as `startable_model` does, and `ConflictError` with code `model_not_yours` where
        another project shares the model.
        """

    def export(self, export_id: str) -> Export:
        """Return the export of that id."""

    def list_exports(self, *, after: str | None, limit: int) -> Page[Export]:
        """Return exports, newest first."""

    def open_exports(self) -> list[Export]:
        """Return the exports that have not ended or hold a submission, oldest first."""

    def change_export(self, seen: Export, changed: Export) -> Export:
        """Put `changed` in the place of the export that the caller read as `seen`; return it.

        Raises `StaleJobError`, and nothing has happened, where its status or attempt has changed
        since.
        """

    def cancel_export(self, export_id: str, *, now: int) -> Export:
        """Cancel the export at the time `now`, in unix seconds.

        A submission that is open stays so, for the controller to stop. Raises `ConflictError` with
        code `export_ended` where it has ended.
        """

    def delete_export(self, export_id: str) -> Export:
        """Forget the export, and return it; the caller deletes its files.

        Raises `ConflictError` with code `export_running` where it has not ended.
        """

    def exports_of(self, model: str) -> list[Export]:
        """Return the exports of the tuned model or checkpoint `model`, and of its checkpoints."""

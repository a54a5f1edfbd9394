"""Finds tuned models and checkpoints by their names, as one project may see them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tunesmith.domain.events import Checkpoint
from tunesmith.domain.ids import checkpoint_step
from tunesmith.domain.jobs import Job
from tunesmith.domain.models import TunedModel
from tunesmith.store import model_rules
from tunesmith.store.queries import read_all
from tunesmith.store.scope import Scope
from tunesmith.store.tables import CHECKPOINTS, JOBS, PERMISSIONS, TUNED_MODELS


class ModelLookup(Scope):
    """Looks models up within a transaction of the caller's."""

    def _visible_model(self, connection: Connection, name: str) -> TunedModel:
        """Return the tuned model or checkpoint `name`, if the project may use it."""
        find = _tuned if checkpoint_step(name) is None else _checkpoint
        model = find(connection, name)
        if model is None or not self._may_use(connection, model):
            raise model_rules.no_model(name)
        return model

    def _startable(self, connection: Connection, name: str) -> TunedModel:
        """Return the model `name` if a job may start from it; see `Store.startable_model`."""
        model = self._visible_model(connection, name)
        if model.deleting:
            raise model_rules.no_model(name)
        check_settled(connection, model)
        return model

    def _own_model(self, connection: Connection, name: str) -> TunedModel:
        """Return the model `name`, which must belong to the project itself."""
        model = self._visible_model(connection, name)
        if self._project not in (None, model.project):
            raise model_rules.foreign_model(name)
        return model

    def _may_use(self, connection: Connection, model: TunedModel) -> bool:
        if self._project in (None, model.project):
            return True
        row = PERMISSIONS.c
        shared = (row.model == model.name) & (row.project_id == self._project)
        return connection.scalar(select(row.id).where(shared)) is not None


def _tuned(connection: Connection, name: str) -> TunedModel | None:
    query = select(TUNED_MODELS).where(TUNED_MODELS.c.name == name)
    found = read_all(connection, query, kind=TunedModel)
    return found[0] if found else None


def _checkpoint(connection: Connection, name: str) -> TunedModel | None:
    query = select(CHECKPOINTS).where(CHECKPOINTS.c.model == name)
    found = read_all(connection, query, kind=Checkpoint)
    if not found:
        return None
    checkpoint = found[0]
    job = _job_of(connection, checkpoint.job_id)
    return TunedModel(
        name=name,
        base=job.base,
        job_id=job.id,
        created_at=checkpoint.created_at,
        key=checkpoint.key,
        deleting=checkpoint.deleting,
        project=job.project,
    )


def check_settled(connection: Connection, model: TunedModel) -> None:
    """Raise `ConflictError` for a checkpoint whose job may still go on from it, or drop it."""
    job = _job_of(connection, model.job_id)
    unsettled = not job.status.terminal or job.submission_open
    if unsettled and checkpoint_step(model.name) is not None:
        raise model_rules.checkpoint_in_use(model.name, model.job_id)


def _job_of(connection: Connection, job_id: str) -> Job:
    [job] = read_all(connection, select(JOBS).where(JOBS.c.id == job_id), kind=Job)
    return job

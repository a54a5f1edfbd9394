"""The SQL of tuned models, and of checkpoints as models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, select, update

from tunesmith.domain.errors import ConflictError
from tunesmith.domain.ids import checkpoint_step
from tunesmith.domain.models import TunedModel
from tunesmith.store import model_rules, rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import read_all
from tunesmith.store.sql_exports import open_export
from tunesmith.store.sql_lookup import ModelLookup, check_settled
from tunesmith.store.tables import CHECKPOINTS, EXPORTS, JOBS, PERMISSIONS, TUNED_MODELS


class SqlModels(ModelLookup):
    """Each method does what `ModelStore` says of it, in one transaction."""

    def list_tuned_models(self) -> list[TunedModel]:
        """Return all tuned models, newest first; see `Store.list_tuned_models`."""
        query = select(TUNED_MODELS).where(self._mine(TUNED_MODELS))
        query = query.order_by(TUNED_MODELS.c.seq.desc())
        with reading(self._engine) as connection:
            return read_all(connection, query, kind=TunedModel)

    def tuned_model(self, name: str) -> TunedModel:
        """Return the tuned model or checkpoint of that name; see `Store.tuned_model`."""
        with reading(self._engine) as connection:
            return self._visible_model(connection, name)

    def startable_model(self, name: str) -> TunedModel:
        """Return the model if a job may start from it; see `Store.startable_model`."""
        with reading(self._engine) as connection:
            return self._startable(connection, name)

    def retire_model(self, name: str) -> TunedModel:
        """Let no job start from the model any more; see `Store.retire_model`."""
        with writing(self._engine) as connection:
            model = self._own_model(connection, name)
            check_settled(connection, model)
            self._check_unused(connection, model)
            self._check_not_exported(connection, model)
            for table, rows in _rows_of(model):
                connection.execute(update(table).where(rows).values(deleting=True))
            return model.model_copy(update={"deleting": True})

    def delete_model(self, name: str) -> TunedModel:
        """Forget the model of that name; see `Store.delete_model`."""
        with writing(self._engine) as connection:
            model = self._own_model(connection, name)
            shared = PERMISSIONS.c.model.in_([name, *_checkpoint_names(connection, model)])
            connection.execute(delete(PERMISSIONS).where(shared))
            for table, rows in _rows_of(model):
                connection.execute(delete(table).where(rows))
            return model

    def _check_not_exported(self, connection: Connection, model: TunedModel) -> None:
        """Raise `ConflictError` where an export of `model`, or of what goes with it, is going on.

        So it is as well where it has ended, and its process may still read.
        """
        going = [model.name, *_checkpoint_names(connection, model)]
        query = select(EXPORTS.c.id).where(EXPORTS.c.model.in_(going), open_export())
        ids = connection.scalars(query.order_by(EXPORTS.c.seq)).all()
        if ids:
            raise model_rules.model_exported(model.name, ids)

    def _check_unused(self, connection: Connection, model: TunedModel) -> None:
        """Raise `ConflictError` where anything needs `model`, or what goes with it.

        That is an unfinished job that starts from it, or what another job has tuned on it as a
        whole model: an adapter means nothing without what is beneath it.
        """
        going = [model.name, *_checkpoint_names(connection, model)]
        begun = JOBS.c.start_from["name"].as_string().in_(going)
        upon = JOBS.c.start_from["beneath"]["name"].as_string().in_(going)
        unfinished = JOBS.c.status.in_(rules.UNFINISHED)
        needing = unfinished & (begun | upon)
        _check_none(connection, model, needing=needing, refusal=model_rules.model_in_use)
        made = exists().where(TUNED_MODELS.c.job_id == JOBS.c.id)
        saved = exists().where(CHECKPOINTS.c.job_id == JOBS.c.id)
        adapted = JOBS.c.request["lora"].as_string().is_not(None)
        needing = upon & adapted & (made | saved)
        _check_none(connection, model, needing=needing, refusal=model_rules.model_beneath)


def _check_none(
    connection: Connection,
    model: TunedModel,
    *,
    needing: ColumnElement[bool],
    refusal: Callable[..., ConflictError],
) -> None:
    """Raise the `refusal` of `model`'s deletion where any jobs are `needing` it."""
    query = select(JOBS.c.id, JOBS.c.project).order_by(JOBS.c.seq).where(needing)
    jobs = connection.execute(query).all()
    own = [job.id for job in jobs if job.project == model.project]
    if jobs:
        raise refusal(model.name, own, others=len(jobs) - len(own))


def _checkpoint_names(connection: Connection, model: TunedModel) -> Sequence[str]:
    """Return the names of the checkpoints that go with `model`."""
    [(table, rows), *_] = _rows_of(model)
    return connection.scalars(select(table.c.model).where(rows)).all()


def _rows_of(model: TunedModel) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return which rows go with `model`: those of checkpoints, then its own."""
    if checkpoint_step(model.name) is not None:
        return [(CHECKPOINTS, CHECKPOINTS.c.model == model.name)]
    return [
        (CHECKPOINTS, CHECKPOINTS.c.job_id == model.job_id),
        (TUNED_MODELS, TUNED_MODELS.c.name == model.name),
    ]

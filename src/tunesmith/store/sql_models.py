"""The SQL of tuned models."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from tunesmith.domain.models import TunedModel
from tunesmith.store import rules
from tunesmith.store.database import reading, writing
from tunesmith.store.queries import read_all, read_one
from tunesmith.store.scope import Scope
from tunesmith.store.tables import CHECKPOINTS, TUNED_MODELS


class SqlModels(Scope):
    """Each method does what `ModelStore` says of it, in one transaction."""

    def list_tuned_models(self) -> list[TunedModel]:
        """Return all tuned models, newest first; see `Store.list_tuned_models`."""
        query = select(TUNED_MODELS).where(self._mine(TUNED_MODELS))
        query = query.order_by(TUNED_MODELS.c.seq.desc())
        with reading(self._engine) as connection:
            return read_all(connection, query, kind=TunedModel)

    def tuned_model(self, name: str) -> TunedModel:
        """Return the tuned model of that name; see `Store.tuned_model`."""
        with reading(self._engine) as connection:
            return self._model(connection, name)

    def delete_tuned_model(self, name: str) -> TunedModel:
        """Forget the tuned model of that name; see `Store.delete_tuned_model`."""
        with writing(self._engine) as connection:
            model = self._model(connection, name)
            ours = CHECKPOINTS.c.job_id == model.job_id
            connection.execute(delete(CHECKPOINTS).where(ours))
            connection.execute(delete(TUNED_MODELS).where(TUNED_MODELS.c.name == name))
            return model

    def _model(self, connection: Connection, name: str) -> TunedModel:
        query = select(TUNED_MODELS).where(TUNED_MODELS.c.name == name, self._mine(TUNED_MODELS))
        return read_one(connection, query, kind=TunedModel, missing=rules.no_model(name))

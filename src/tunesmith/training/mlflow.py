"""Shows a run's metrics on an MLflow server.

A thread of its own speaks with the server, so that training never waits for it. The server's
address is in the spec or in `MLFLOW_TRACKING_URI`, credentials are in the environment of the node
alone, where MLflow's client itself reads both.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from tunesmith.domain.spec import TrainSpec
from tunesmith.domain.tracking import MlflowIntegration
from tunesmith.training.board import SUCCEEDED, Point, flat_config
from tunesmith.training.sender import Sender

_LAST = 15.0
"""Seconds that the end of a run may wait until the server has all."""

_FAREWELL = 2.0
"""Seconds that a process which is stopped goes on sending, if it lives so long."""

_STOPPED = "stopped"
"""The outcome of an attempt that was stopped."""

_STATUS = {SUCCEEDED: "FINISHED", _STOPPED: "KILLED"}
"""MLflow's words for how a run ended; any other outcome is `FAILED`."""

_JOB = "tunesmith.job"
"""The tag by which each attempt finds the run of the job, with the next one."""

_INTEGRATION = "tunesmith.integration"
"""The tag that tells the runs of one job apart."""


class NoServerError(Exception):
    """Nothing names the MLflow server."""


class MlflowBoard:
    """A run of an MLflow experiment, the same one in each attempt."""

    name = "MLflow"

    def __init__(self, spec: TrainSpec, integration: MlflowIntegration, *, number: int) -> None:
        """Show the run of `spec` as its integration `number`, from 1."""
        self.place = f"the experiment '{integration.experiment}'"
        self._sender = Sender(
            partial(_Run, spec, integration, number=number),
            final=(ModuleNotFoundError, NoServerError),
        )

    def open(self, history: Sequence[Point]) -> None:
        """Start to send, with `history`: the server passes over what it has."""
        self._sender.start()
        self._sender.put(history)

    def step(self, point: Point) -> None:
        """Show one step more."""
        self._sender.put([point])

    def stopped(self) -> None:
        """Send what waits, and show the run as killed until it goes on."""
        self._sender.end(_STOPPED, seconds=_FAREWELL)

    def close(self, outcome: str) -> None:
        """Send what waits, and show how the run ended."""
        self._sender.end(outcome, seconds=_LAST)

    def mend(self, error: BaseException) -> str:
        """Return what is to be done about `error`."""
        if isinstance(error, ModuleNotFoundError):
            return "Install the package 'mlflow-skinny' on the nodes."
        if isinstance(error, NoServerError):
            return (
                "Name the server by the setting 'mlflow_tracking_uri', or by MLFLOW_TRACKING_URI "
                "in the environment of the nodes."
            )
        return (
            "Check the server, its address, MLFLOW_TRACKING_TOKEN or MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, and the network of the nodes."
        )


class _Run:
    """The run at the server: the one of an earlier attempt, or a new one."""

    def __init__(self, spec: TrainSpec, integration: MlflowIntegration, *, number: int) -> None:
        tracking = importlib.import_module("mlflow.tracking")
        if integration.tracking_uri is None and not tracking.is_tracking_uri_set():
            # The client would write into the folder that the process happens to be in.
            raise NoServerError
        self._entities = importlib.import_module("mlflow.entities")
        self._client = tracking.MlflowClient(tracking_uri=integration.tracking_uri)
        own = {_JOB: spec.job_id, _INTEGRATION: str(number)}
        self._id = self._find(integration, own) or self._create(spec, integration, own=own)
        params = [self._entities.Param(key, str(each)) for key, each in flat_config(spec).items()]
        self._client.log_batch(self._id, params=params)

    def send(self, points: Sequence[Point]) -> None:
        """Show `points`. The server keeps one of those with the same step, time and value."""
        metrics = [
            self._entities.Metric(name, number, point.at * 1000, point.step)
            for point in points
            for name, number in point.numbers.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def end(self, outcome: str) -> None:
        """Show how the run ended."""
        self._client.set_tag(self._id, "tunesmith.outcome", outcome)
        self._client.set_terminated(self._id, _STATUS.get(outcome, "FAILED"))

    def _find(self, integration: MlflowIntegration, own: dict[str, str]) -> str | None:
        """Return the id of the run that an earlier attempt made, which goes on."""
        experiment = self._client.get_experiment_by_name(integration.experiment)
        if experiment is None:
            return None
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in own.items())
        found = self._client.search_runs([experiment.experiment_id], wanted, max_results=1)
        if not found:
            return None
        run_id = str(found[0].info.run_id)
        self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _create(
        self, spec: TrainSpec, integration: MlflowIntegration, *, own: dict[str, str]
    ) -> str:
        tags = {
            **integration.tags,
            **own,
            "tunesmith.base_model": spec.base_model.name,
            "tunesmith.model": spec.tuned_model,
            "tunesmith.training_file": spec.training_file.filename,
            "tunesmith.training_file.sha256": spec.training_file.sha256,
        }
        if spec.validation_file is not None:
            tags["tunesmith.validation_file"] = spec.validation_file.filename
            tags["tunesmith.validation_file.sha256"] = spec.validation_file.sha256
        run: Any = self._client.create_run(
            self._experiment(integration.experiment),
            run_name=integration.name or spec.job_id,
            tags=tags,
        )
        return str(run.info.run_id)

    def _experiment(self, name: str) -> str:
        """Return the id of the experiment `name`, which another job may make at the same time."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except Exception:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

"""Jobs are shown on TensorBoard and on a real MLflow server, by a setting and by request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from openai.types.fine_tuning import FineTuningJob
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from e2e import mlflow_server
from e2e.conftest import new_data
from e2e.rows import sums
from e2e.service import Service, running

pytestmark = pytest.mark.skipif(
    not mlflow_server.COMMAND.exists(), reason="`make .venv/peers/mlflow/.installed` first"
)

ASKED = {"experiment": "orders", "name": "first try", "tags": {"team": "blue"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server.serving(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, server: str
) -> Iterator[Service]:
    """A service whose operator has every job tracked."""
    environment = {
        "TUNESMITH_TENSORBOARD": "true",
        "TUNESMITH_MLFLOW_EXPERIMENT": "all",
        "TUNESMITH_MLFLOW_TRACKING_URI": server,
    }
    data = new_data(tmp_path_factory.mktemp("tracked"), tiny_model)
    with running(data, environment) as service:
        yield service


def create(service: Service, **keys: Any) -> FineTuningJob:
    client = service.client
    file = client.files.create(file=("sums.jsonl", sums(16)), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        hyperparameters={"n_epochs": 2, "batch_size": 4},
        extra_body={"tuning": {"cpus": 1, "adapter": {"rank": 4}, "held_out_percent": 20}},
        **keys,
    )


def runs(client: MlflowClient, experiment: str) -> dict[str, Run]:
    """The runs of an experiment, by the job that each is of."""
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    listed = client.search_runs([found.experiment_id])
    return {run.data.tags["tunesmith.job"]: run for run in listed}


def test_every_job_is_shown_where_the_operator_and_the_job_want_it(
    tracked: Service, server: str
) -> None:
    asking = create(tracked, integrations=[{"type": "mlflow", "mlflow": ASKED}])
    plain = create(tracked)
    for job in (asking, plain):
        assert tracked.wait(job.id).status == "succeeded"

    # What a client sees is what it asked for; the operator's choice is none of its affairs.
    shown = tracked.client.fine_tuning.jobs.retrieve(asking.id).integrations
    assert [each.to_dict() for each in shown or ()] == [{"type": "mlflow", "mlflow": ASKED}]
    assert plain.integrations == []

    client = MlflowClient(tracking_uri=server)
    every, orders = runs(client, "all"), runs(client, "orders")
    assert set(every) == {asking.id, plain.id}
    assert set(orders) == {asking.id}
    assert orders[asking.id].info.run_name == "first try"
    assert orders[asking.id].data.tags["team"] == "blue"

    board = EventMultiplexer().AddRunsFromDirectory(str(tracked.data / "runs"))
    board.Reload()
    assert set(board.Runs()) == {f"{job.id}/tensorboard" for job in (asking, plain)}
    for job in (asking, plain):
        told = losses(tracked, job.id)
        run = every[job.id]
        assert run.info.status == "FINISHED"
        assert run.data.params["base_model"] == "tiny"
        points = client.get_metric_history(run.info.run_id, "train_loss")
        assert {point.step: point.value for point in points} == told
        curve = board.Scalars(f"{job.id}/tensorboard", "train_loss")
        assert {point.step: point.value for point in curve} == pytest.approx(told)


def losses(service: Service, job_id: str) -> dict[int, float]:
    events = service.client.fine_tuning.jobs.list_events(job_id, limit=100)
    data: list[Any] = [event.data for event in events if event.type == "metrics"]
    assert data
    return {int(each["step"]): float(each["train_loss"]) for each in data}

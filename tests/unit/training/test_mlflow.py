"""MLflow shows a run once, whatever the attempts, and is never a reason for it to fail or wait."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunesmith.domain.errors import StaleJobError
from tunesmith.domain.events import EventLevel, StepMetrics
from tunesmith.domain.tracking import MlflowIntegration
from tunesmith.models.environment import ENVIRONMENT
from tunesmith.training import stopping
from tunesmith.training.boards import boards
from tunesmith.training.stopping import EXIT_STOPPED, StopFlag
from tunesmith.training.telemetry import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.training.conftest import Bench, Rows

NOBODY = "http://127.0.0.1:9"
TOKEN = "mmmmmmmmmmmmmmmmmmmm"
STEP = StepMetrics(
    step=1,
    train_loss=0.5,
    train_mean_token_accuracy=0.5,
    total_steps=3,
    learning_rate=0.1,
    tokens_per_second=1.0,
    seconds_left=1.0,
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow's own database, without a server before it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(place: str) -> MlflowClient:
    return MlflowClient(tracking_uri=place)


@pytest.fixture
def board(place: str, request: pytest.FixtureRequest) -> MlflowIntegration:
    """An experiment for each test."""
    return MlflowIntegration(
        experiment=request.node.name, name="first try", tags={"team": "blue"}, tracking_uri=place
    )


def runs(client: MlflowClient, board: MlflowIntegration) -> list[Run]:
    experiment = client.get_experiment_by_name(board.experiment)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def curve(client: MlflowClient, run: Run, name: str = "train_loss") -> dict[int, float]:
    """A metric's values by step, each of which was sent once."""
    points = client.get_metric_history(run.info.run_id, name)
    found = {point.step: point.value for point in points}
    assert len(points) == len(found)
    return found


def warnings(bench: Bench) -> list[str]:
    events = bench.run.events(after=0)
    return [event.message for event in events if event.level is EventLevel.WARN]


def test_the_experiment_shows_each_step_what_was_asked_for_and_the_end(
    bench: Bench, rows: Callable[[int], Rows], board: MlflowIntegration, client: MlflowClient
) -> None:
    spec = bench.write_spec(rows(12), integrations=(board,), held_out_percent=25.0)

    assert bench.train().error is None

    [run] = runs(client, board)
    assert (run.info.run_name, run.info.status) == ("first try", "FINISHED")
    assert curve(client, run) == {one.step: one.train_loss for one in bench.metrics()}
    assert list(curve(client, run, "valid_loss")) == [max(one.step for one in bench.metrics())]
    assert run.data.params["base_model"] == "tiny"
    assert run.data.params["lora.rank"] == "4"
    tags = run.data.tags
    assert tags["team"] == "blue"
    assert tags["tunesmith.job"] == "ftjob-1"
    assert tags["tunesmith.model"] == spec.tuned_model
    assert tags["tunesmith.training_file.sha256"] == spec.training_file.sha256
    assert warnings(bench) == []


def test_a_run_that_goes_on_is_the_same_one_with_each_step_once(
    bench: Bench, rows: Callable[[int], Rows], board: MlflowIntegration, client: MlflowClient
) -> None:
    bench.write_spec(rows(12), integrations=(board,), checkpoint_every=2)
    bench.train_until(b"Step 6/")

    bench.train(attempt=2)

    [run] = runs(client, board)
    assert sorted(curve(client, run)) == [1, 2, 3, 4, 5, 6]
    assert run.info.status == "FINISHED"


def test_a_failed_run_is_shown_as_failed(
    bench: Bench, rows: Callable[[int], Rows], board: MlflowIntegration, client: MlflowClient
) -> None:
    bench.write_spec(
        rows(2), integrations=(board,), learning_rate=1e30, max_grad_norm=1e30, n_epochs=20
    )

    assert bench.train().error is not None

    [run] = runs(client, board)
    assert run.info.status == "FAILED"
    assert run.data.tags["tunesmith.outcome"] == "loss_not_finite"


def test_a_run_that_is_stopped_is_shown_as_killed_until_it_goes_on(
    bench: Bench,
    rows: Callable[[int], Rows],
    board: MlflowIntegration,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "_FAREWELL", 60)
    codes: list[int] = []
    stop = StopFlag(leave=codes.append)
    spec = bench.write_spec(rows(12), integrations=(board, board))
    events = EventLog(bench.run, 1)

    # The process would be gone behind the stop, and another attempt may write.
    with suppress(StaleJobError), boards(spec, bench.run, events=events, stop=stop) as shown:
        events.step(STEP)
        shown.step(STEP)
        stop.stop()
        raise StaleJobError

    assert codes == [EXIT_STOPPED]
    for run in both(client, board):
        assert (run.info.status, curve(client, run)) == ("KILLED", {1: 0.5})

    with boards(spec, bench.run, events=events, stop=stop):
        until(lambda: {run.info.status for run in both(client, board)} == {"RUNNING"})
    for run in both(client, board):
        assert (run.info.status, curve(client, run)) == ("FINISHED", {1: 0.5})


def both(client: MlflowClient, board: MlflowIntegration) -> list[Run]:
    found = runs(client, board)
    assert len(found) == 2
    return found


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_integrations_of_one_experiment_are_two_runs(
    bench: Bench, rows: Callable[[int], Rows], board: MlflowIntegration, client: MlflowClient
) -> None:
    other = board.model_copy(update={"name": "again"})
    bench.write_spec(rows(8), integrations=(board, other), n_epochs=1)

    bench.train()

    assert sorted(run.info.run_name for run in runs(client, board)) == ["again", "first try"]


def test_a_board_changes_nothing_of_the_result(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], board: MlflowIntegration
) -> None:
    plain, shown = new_bench("plain"), new_bench("shown")
    plain.write_spec(rows(8))
    plain.train()
    shown.write_spec(rows(8), integrations=(board,))
    shown.train()

    assert shown.adapter() == plain.adapter()


def test_a_server_that_does_not_answer_is_told_once_and_training_goes_on(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    board = MlflowIntegration(experiment="orders", tracking_uri=NOBODY)
    bench.write_spec(rows(8), integrations=(board,))

    assert bench.train().error is None

    [warning] = warnings(bench)
    assert "MLflow does not show this job in the experiment 'orders'" in warning
    assert "Check the server, its address, MLFLOW_TRACKING_TOKEN" in warning
    assert all(TOKEN.encode() not in path.read_bytes() for path in files(bench.root))


def test_without_a_server_a_warning_says_where_one_is_named(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(files(tmp_path))
    bench.write_spec(rows(8), integrations=(MlflowIntegration(experiment="orders"),))

    assert bench.train().error is None

    [warning] = warnings(bench)
    assert "(NoServerError). Name the server by the setting 'mlflow_tracking_uri'" in warning
    assert all(path.is_relative_to(bench.root) for path in set(files(tmp_path)) - before)


def test_the_environment_of_the_node_may_name_the_server(
    bench: Bench,
    rows: Callable[[int], Rows],
    board: MlflowIntegration,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    bench.write_spec(rows(8), integrations=(board.model_copy(update={"tracking_uri": None}),))

    bench.train()

    assert len(runs(client, board)) == 1


def test_without_the_package_a_warning_says_what_to_install_and_training_goes_on(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    board = MlflowIntegration(experiment="orders", tracking_uri=NOBODY)
    bench.write_spec(rows(8), integrations=(board,))

    assert bench.train().error is None

    [warning] = warnings(bench)
    assert "experiment 'orders' (ModuleNotFoundError). Install the package 'mlflow-sk" in warning
    assert warning.endswith("Training goes on.")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]

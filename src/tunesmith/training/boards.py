"""The boards that show a run elsewhere while it goes on.

Whatever goes wrong with one is told in a warning, and training goes on: a board is no reason for
a run to fail, nor to wait for long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import StaleJobError
from tunesmith.domain.events import EventLevel, StepMetrics
from tunesmith.domain.spec import TrainSpec
from tunesmith.domain.tracking import MlflowIntegration, TensorboardIntegration, WandbIntegration
from tunesmith.tracing import is_traced
from tunesmith.training.board import SUCCEEDED, Board, Point, SilentError
from tunesmith.training.failures import explain
from tunesmith.training.mlflow import MlflowBoard
from tunesmith.training.stopping import StopFlag
from tunesmith.training.telemetry import EventLog
from tunesmith.training.tensorboard import TensorboardBoard
from tunesmith.training.traces import TraceBoard
from tunesmith.training.wandb import WandbBoard, keep_offline


class Boards:
    """The boards that show a run; one that fails is closed, with a warning."""

    def __init__(self, events: EventLog) -> None:
        """Show nothing yet; warn through `events`."""
        self._events = events
        self._open: list[Board] = []

    def open(self, boards: Sequence[Board]) -> None:
        """Open `boards`, each with the steps that earlier attempts have told."""
        steps = sorted(self._events.steps.items())
        history = [Point.of(metrics, at=self._events.told_at[step]) for step, metrics in steps]
        for board in boards:
            self._open.append(board)
            with self._warning(board):
                board.open(history)

    def step(self, metrics: StepMetrics) -> None:
        """Show the numbers of a step, which the events have told, on all boards."""
        point = Point.of(metrics, at=self._events.told_at[metrics.step])
        for board in tuple(self._open):
            with self._warning(board):
                board.step(point)

    def stopped(self) -> None:
        """Tell all boards that the process ends before the run."""
        open_now = tuple(self._open)
        # All at once, since there is half a second; nobody is left to be told what went wrong.
        with ThreadPoolExecutor(max_workers=len(open_now) or 1) as pool:
            for board in open_now:
                pool.submit(board.stopped)

    def close(self, outcome: str) -> None:
        """Close all boards with `outcome`."""
        for board in tuple(self._open):
            with self._warning(board):
                board.close(outcome)
        self._open.clear()

    @contextmanager
    def _warning(self, board: Board) -> Iterator[None]:
        """Give `board` up, with a warning, if the block fails for good."""
        try:
            yield
        except SilentError as silent:
            cause = silent.__cause__ or silent
            self._warn(board, cause, further=" What it lacks is sent once it answers.")
        # Each service raises errors of many kinds, of its own and of the network.
        except Exception as error:  # noqa: BLE001  a loop's edge: the run goes on without a board
            self._open.remove(board)
            self._warn(board, error)

    def _warn(self, board: Board, error: BaseException, *, further: str = "") -> None:
        # The error's own words are not repeated: they may hold a part of a secret.
        self._events.message(
            f"{board.name} does not show this job in {board.place} ({type(error).__name__}). "
            f"{board.mend(error)} Training goes on.{further}",
            level=EventLevel.WARN,
        )


@contextmanager
def boards(
    spec: TrainSpec, run: RunDirectory, *, events: EventLog, stop: StopFlag
) -> Iterator[Boards]:
    """Return a context with the boards of `spec`, which are closed with how the block ends.

    What wandb writes in offline mode is kept in the run directory. A `stop` is told to them.
    """
    opened = Boards(events)
    if is_traced():
        opened.open([TraceBoard()])
    if not spec.integrations:
        yield opened
        opened.close(SUCCEEDED)
        return
    with run.scratch() as folder:
        opened.open(_boards(spec, run, attempt=events.attempt, folder=folder))
        stop.tell_with(opened.stopped)
        try:
            yield opened
        except StaleJobError:
            # The attempt that took over goes on with the same boards.
            raise
        except Exception as error:
            opened.close(str(explain(error).code))
            keep_offline(run, folder)
            raise
        opened.close(SUCCEEDED)
        keep_offline(run, folder)


def _boards(spec: TrainSpec, run: RunDirectory, *, attempt: int, folder: Path) -> list[Board]:
    """Return the boards of `spec`, none of them open; wandb's may write into `folder`."""
    found: list[Board] = []
    for number, integration in enumerate(spec.integrations, start=1):
        match integration:
            case WandbIntegration():
                found.append(WandbBoard(spec, integration, number=number, folder=folder))
            case TensorboardIntegration():
                found.append(TensorboardBoard(spec, run, attempt=attempt))
            case MlflowIntegration():
                found.append(MlflowBoard(spec, integration, number=number))
    return found

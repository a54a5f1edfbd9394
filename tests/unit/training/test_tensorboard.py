"""TensorBoard finds each step of a run once, in the run directory, whatever the attempts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tunesmith.domain.events import EventLevel
from tunesmith.domain.tracking import TensorboardIntegration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.training.conftest import Bench, Rows

BOARD = TensorboardIntegration()


def read(bench: Bench) -> EventAccumulator:
    """What TensorBoard reads of the run."""
    found = EventAccumulator(str(bench.root / bench.run.tensorboard))
    found.Reload()
    return found


def files(bench: Bench) -> list[str]:
    return bench.artifacts.list(bench.run.tensorboard)


def steps_in(file: Path) -> list[int]:
    """The steps whose losses one file holds, as they stand there."""
    events = LegacyEventFileLoader(str(file)).Load()
    return [
        event.step
        for event in events
        if any(value.tag == "train_loss" for value in event.summary.value)
    ]


def warnings(bench: Bench) -> list[str]:
    events = bench.run.events(after=0)
    return [event.message for event in events if event.level is EventLevel.WARN]


def test_each_step_is_there_with_its_numbers_and_the_time_it_was_told(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), integrations=(BOARD,), held_out_percent=25.0)

    assert bench.train().error is None

    shown = read(bench)
    told = {e.metrics.step: e for e in bench.run.events(after=0) if e.metrics}
    losses = shown.Scalars("train_loss")
    assert [point.step for point in losses] == sorted(told)
    for point in losses:
        event = told[point.step]
        assert event.metrics is not None
        assert point.value == pytest.approx(event.metrics.train_loss)
        assert point.wall_time == event.created_at
    [last] = [point.step for point in shown.Scalars("valid_loss")]
    assert last == max(told)
    assert set(shown.Tags()["scalars"]) >= {"learning_rate", "train_mean_token_accuracy"}
    assert warnings(bench) == []


def test_the_values_that_tell_runs_apart_are_there_for_the_table_of_runs(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), integrations=(BOARD,), n_epochs=1)
    bench.train()

    content = read(bench).PluginTagToContent("hparams")["_hparams_/session_start_info"]
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams

    assert hparams["base_model"].string_value == "tiny"
    assert hparams["lora.rank"].number_value == 4
    assert str(bench.root) not in str(hparams)


@pytest.mark.parametrize("torn", [b"", b"\x18\x00\x00"])
def test_a_run_that_goes_on_has_each_step_once(
    bench: Bench, rows: Callable[[int], Rows], torn: bytes
) -> None:
    bench.write_spec(rows(12), integrations=(BOARD,), checkpoint_every=2)
    bench.train_until(b"Step 4/")
    [first] = files(bench)
    # What a process that is killed in mid-write leaves behind.
    bench.artifacts.append(first, torn)

    bench.train(attempt=2)

    assert [point.step for point in read(bench).Scalars("train_loss")] == [1, 2, 3, 4, 5, 6]
    assert [steps_in(bench.root / key) for key in files(bench)] == [[1, 2, 3], [4, 5, 6]]


def test_a_step_that_was_told_but_not_shown_is_made_good(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), integrations=(BOARD,), checkpoint_every=2)
    bench.train_until(b"Checkpoint saved at step 4")
    [first] = files(bench)
    # The records of the steps 3 and 4 never reached the disk.
    content = bench.artifacts.get(first)
    end = content.rindex(b"train_loss", 0, content.rindex(b"train_loss"))
    bench.artifacts.put(first, content[:end])

    bench.train(attempt=2)

    assert [point.step for point in read(bench).Scalars("train_loss")] == [1, 2, 3, 4, 5, 6]


def test_who_watches_across_two_attempts_sees_each_step_once(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), integrations=(BOARD,), checkpoint_every=2)
    bench.train_until(b"Step 6/")
    watching = EventAccumulator(str(bench.root / bench.run.tensorboard))
    watching.Reload()
    assert [point.step for point in watching.Scalars("train_loss")] == [1, 2, 3, 4, 5]

    bench.train(attempt=2)
    watching.Reload()

    assert [point.step for point in watching.Scalars("train_loss")] == [1, 2, 3, 4, 5, 6]


def test_the_file_can_be_watched_while_the_run_goes_on(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), integrations=(BOARD,))
    bench.train_until(b"Step 4/")

    assert [point.step for point in read(bench).Scalars("train_loss")] == [1, 2, 3]


def test_a_board_changes_nothing_of_the_result(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    plain, shown = new_bench("plain"), new_bench("shown")
    plain.write_spec(rows(8))
    plain.train()
    shown.write_spec(rows(8), integrations=(BOARD,))
    shown.train()

    assert shown.adapter() == plain.adapter()


def test_without_the_package_a_warning_says_what_to_install_and_training_goes_on(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    bench.write_spec(rows(8), integrations=(BOARD,))

    assert bench.train().error is None

    [warning] = warnings(bench)
    assert "folder 'runs/ftjob-1/tensorboard' (ModuleNotFoundError)" in warning
    assert "Install the package 'tensorboard'" in warning
    assert files(bench) == []

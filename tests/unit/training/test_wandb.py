"""Weights & Biases shows a run, and is never a reason for it to fail or to wait."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from tunesmith.domain.events import EventLevel, RunEvent
from tunesmith.domain.tracking import WandbIntegration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unit.training.conftest import Bench, Rows

KEY = "0123456789abcdef0123456789abcdef01234567"
BOARD = WandbIntegration(project="orders", name="first try", entity="team", tags=("mine",))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.teardown()


def records(content: bytes) -> Iterator[Any]:
    """The records of a `.wandb` file: LevelDB's log format behind a header of 7 bytes."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        # 1 is a whole record, 4 the last part of one.
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def written(bench: Bench) -> list[Any]:
    [key] = [
        key for key in bench.artifacts.list(f"{bench.run.prefix}/wandb") if key.endswith(".wandb")
    ]
    return list(records(bench.artifacts.get(key)))


def history(found: list[Any]) -> dict[int, dict[str, str]]:
    """The numbers logged, by step, as JSON texts."""
    rows = [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
    return {int(row["_step"]): row for row in rows}


def warnings(bench: Bench) -> list[RunEvent]:
    return [event for event in bench.run.events(after=0) if event.level is EventLevel.WARN]


def test_offline_the_run_directory_holds_each_step_and_the_outcome(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), integrations=(BOARD,), held_out_percent=25.0)

    assert bench.train().error is None

    found = written(bench)
    [run] = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.project, run.entity) == ("ftjob-1", "orders", "team")
    assert run.display_name == "first try"
    assert list(run.tags) == ["openai/finetune", "openai/tiny", "openai/ftjob-1", "mine"]
    told = {one.step: one for one in bench.metrics()}
    shown = history(found)
    assert shown.keys() == told.keys()
    assert all(float(shown[s]["train_loss"]) == told[s].train_loss for s in told)
    assert "valid_loss" in shown[max(told)]
    [code] = [record.exit.exit_code for record in found if record.HasField("exit")]
    assert code == 0
    assert warnings(bench) == []


def test_a_board_changes_nothing_of_the_result(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    plain, shown = new_bench("plain"), new_bench("shown")
    plain.write_spec(rows(8))
    plain.train()
    shown.write_spec(rows(8), integrations=(BOARD,))
    shown.train()

    assert shown.adapter() == plain.adapter()


def test_a_resumed_run_shows_the_steps_of_all_attempts(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(12), integrations=(BOARD,), checkpoint_every=2)
    bench.train_until(b"Step 4/")
    # The process's end.
    wandb.teardown()

    bench.train(attempt=2)

    assert sorted(history(written(bench))) == [1, 2, 3, 4, 5, 6]


def test_the_key_is_nowhere_in_what_the_run_wrote(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), integrations=(BOARD,))
    bench.train()

    assert_no_key(bench)


def assert_no_key(bench: Bench) -> None:
    for path in bench.root.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_each_integration_has_a_board_of_its_own(bench: Bench, rows: Callable[[int], Rows]) -> None:
    other = WandbIntegration(project="others")
    bench.write_spec(rows(8), integrations=(BOARD, other), n_epochs=1)

    bench.train()

    keys = bench.artifacts.list(f"{bench.run.prefix}/wandb")
    assert sorted(key.rpartition("/")[2] for key in keys) == [
        "run-ftjob-1-2.wandb",
        "run-ftjob-1.wandb",
    ]
    assert warnings(bench) == []


def test_a_failed_run_is_shown_as_failed(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(
        rows(2), integrations=(BOARD,), learning_rate=1e30, max_grad_norm=1e30, n_epochs=20
    )

    assert bench.train().error is not None

    found = written(bench)
    summaries = [item for record in found for item in record.summary.update]
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [1]
    assert '"loss_not_finite"' in [item.value_json for item in summaries]


def test_without_the_package_a_warning_says_what_to_install_and_training_goes_on(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    bench.write_spec(rows(8), integrations=(BOARD,))

    assert bench.train().error is None

    [warning] = warnings(bench)
    assert "project 'orders' (ModuleNotFoundError). Install the package 'wandb'" in warning.message


def test_a_login_that_fails_is_a_warning_and_training_goes_on(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(bench.root / "none"))
    bench.write_spec(rows(8), integrations=(BOARD,))

    assert bench.train().error is None

    [warning] = warnings(bench)
    assert "Check WANDB_API_KEY" in warning.message


def test_a_board_that_breaks_in_mid_run_is_told_once_and_left(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise wandb.errors.CommError(f"the server refused the key {KEY}")

    monkeypatch.setattr(wandb.Run, "log", refuse)
    bench.write_spec(rows(8), integrations=(BOARD,))

    assert bench.train().error is None

    [warning] = warnings(bench)
    assert "(CommError)" in warning.message
    assert KEY not in warning.message


def test_a_tag_that_is_too_long_for_wandb_is_cut(bench: Bench, rows: Callable[[int], Rows]) -> None:
    spec = bench.write_spec(rows(8), integrations=(BOARD,), n_epochs=1)
    named = spec.base_model.model_copy(update={"name": "org/" + "x" * 80})
    bench.run.write_spec(spec.model_copy(update={"base_model": named}))

    bench.train()

    [run] = [r.run for r in written(bench) if r.WhichOneof("record_type") == "run"]
    assert [len(tag) for tag in run.tags] == [15, 64, 14, 4]


def test_a_stop_is_as_quick_with_a_board(bench: Bench, rows: Callable[[int], Rows]) -> None:
    bench.write_spec(rows(40), integrations=(BOARD,), n_epochs=50, batch_size=1)
    command = [sys.executable, "-m", "tunesmith.training", "--artifacts", str(bench.root)]
    process = subprocess.Popen(
        [*command, "--job", "ftjob-1", "--attempt", "1"], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while len(bench.metrics()) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=20)
    finally:
        process.kill()

    assert code == 143
    assert time.monotonic() - asked < 3.5
    assert "Asked to stop" in bench.artifacts.get(f"{bench.run.prefix}/log").decode()
    assert_no_key(bench)

"""What is copied of artifacts that others write and delete meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tunesmith.artifacts.backup import Backup, EarlierBackup
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.backups import Manifest, Named
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.disk import Disk
from tunesmith.domain.errors import DiskFullError, SettingsError
from tunesmith.domain.events import RunEvent, RunOutcome

RUN = "runs/ftjob-1"


class Disturbed(MemoryArtifacts):
    """Artifacts to which something happens just before a key is opened."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        super().__init__(self.clock)
        self.before: dict[str, Callable[[], object]] = {}

    def open(self, key: str) -> BinaryIO:
        self.before.pop(key, lambda: None)()
        return super().open(key)


@pytest.fixture
def artifacts() -> Disturbed:
    return Disturbed()


def named(**fields: Any) -> Named:
    nothing: dict[str, Any] = {"keys": (), "prefixes": (), "ended": (), "open": (), "exports": ()}
    return Named.model_validate(nothing | fields)


def new_backup(
    folder: Path, artifacts: MemoryArtifacts, *, since: Path | None = None, free: int = 10**9
) -> Backup:
    folder.mkdir()
    disk = Disk(folder, floor=1000, free=lambda _: free)
    earlier = EarlierBackup(since) if since else None
    backup = Backup(folder, artifacts, disk=disk, since=earlier)
    backup.database.write_bytes(b"rows")
    return backup


def finish(backup: Backup) -> Manifest:
    return backup.finish(settings=b"", version="1", created_at=0, missing=())


def tell_step(artifacts: MemoryArtifacts, step: int) -> None:
    metrics = {
        **{"step": step, "total_steps": 9, "train_loss": 1.0, "train_mean_token_accuracy": 0.5},
        **{"learning_rate": 0.1, "tokens_per_second": 1.0, "seconds_left": 1.0},
    }
    run = RunDirectory(artifacts, "ftjob-1")
    event = {"number": step, "created_at": 0, "message": "m", "metrics": metrics}
    run.append_event(RunEvent.model_validate(event))


def add_checkpoint(artifacts: MemoryArtifacts, step: int) -> None:
    for name in ("adapter", "state"):
        artifacts.put(f"{RUN}/checkpoints/step-{step}/{name}", f"{name} {step}".encode())


def test_what_is_named_is_copied_and_nothing_else(artifacts: Disturbed, tmp_path: Path) -> None:
    artifacts.put("files/a", b"rows of a")
    artifacts.put("files/b", b"rows of b")
    artifacts.put("models/base/weights", b"can be had again")
    backup = new_backup(tmp_path / "b", artifacts)
    assert backup.take(named(keys={"files/a"})) == set()
    assert list(finish(backup).artifacts) == ["files/a"]
    earlier = EarlierBackup(tmp_path / "b")
    earlier.verify()
    elsewhere = MemoryArtifacts()
    earlier.put_into(elsewhere)
    assert elsewhere.get("files/a") == b"rows of a"


def test_what_is_not_there_is_told(artifacts: Disturbed, tmp_path: Path) -> None:
    backup = new_backup(tmp_path / "b", artifacts)
    found = backup.take(named(keys={"files/gone"}, prefixes={"output/gone"}))
    assert found == {"files/gone", "output/gone"}


def test_a_later_pass_drops_what_is_named_no_more_and_copies_what_has_changed(
    artifacts: Disturbed, tmp_path: Path
) -> None:
    for key in ("files/a", "files/b", "files/c"):
        artifacts.put(key, b"old")
    backup = new_backup(tmp_path / "b", artifacts)
    backup.take(named(keys={"files/a", "files/b", "files/c"}))
    artifacts.clock.advance(5)
    artifacts.put("files/b", b"new")
    backup.take(named(keys={"files/b", "files/c"}))
    finish(backup)
    there = {path.name: path.read_bytes() for path in (tmp_path / "b/artifacts").rglob("?")}
    assert there == {"b": b"new", "c": b"old"}


def test_a_checkpoint_beyond_the_events_is_left_out(artifacts: Disturbed, tmp_path: Path) -> None:
    tell_step(artifacts, 1)
    # The second is saved after the events were copied, which is to say that they lack its step.
    add_checkpoint(artifacts, 1)
    add_checkpoint(artifacts, 2)
    backup = new_backup(tmp_path / "b", artifacts)
    assert backup.take(named(open=("ftjob-1",))) == set()
    steps = {key.split("/")[3] for key in finish(backup).artifacts if "checkpoints" in key}
    assert steps == {"step-1"}


def test_a_checkpoint_that_goes_while_it_is_copied_leaves_no_half(
    artifacts: Disturbed, tmp_path: Path
) -> None:
    for step in (1, 2):
        tell_step(artifacts, step)
        add_checkpoint(artifacts, step)
    oldest = f"{RUN}/checkpoints/step-1"
    artifacts.before = {f"{oldest}/state": lambda: artifacts.delete(oldest)}
    backup = new_backup(tmp_path / "b", artifacts)
    backup.take(named(open=("ftjob-1",)))
    kept = [key for key in finish(backup).artifacts if "checkpoints" in key]
    newest = f"{RUN}/checkpoints/step-2"
    assert kept == [f"{newest}/adapter", f"{newest}/state"]
    assert not (tmp_path / "b/artifacts" / oldest).exists()


def test_a_run_all_of_whose_checkpoints_go_meanwhile_is_copied_anew(
    artifacts: Disturbed, tmp_path: Path
) -> None:
    tell_step(artifacts, 1)
    add_checkpoint(artifacts, 1)

    def go_on() -> None:
        tell_step(artifacts, 2)
        add_checkpoint(artifacts, 2)
        artifacts.delete(f"{RUN}/checkpoints/step-1")

    artifacts.before = {f"{RUN}/checkpoints/step-1/adapter": go_on}
    backup = new_backup(tmp_path / "b", artifacts)
    backup.take(named(open=("ftjob-1",)))
    elsewhere = MemoryArtifacts()
    finish(backup)
    EarlierBackup(tmp_path / "b").put_into(elsewhere)
    run = RunDirectory(elsewhere, "ftjob-1")
    assert run.checkpoint_steps() == [2]
    assert [event.number for event in run.events(after=0)] == [1, 2]


def test_a_result_that_is_deleted_behind_its_runs_end_is_told(
    artifacts: Disturbed, tmp_path: Path
) -> None:
    done = RunEvent(number=1, created_at=1, message="Done", outcome=RunOutcome())
    RunDirectory(artifacts, "ftjob-1").append_event(done)
    artifacts.put("output/ftjob-1/adapter", b"weights")
    backup = new_backup(tmp_path / "b", artifacts)
    assert backup.take(named(open=("ftjob-1",))) == set()
    artifacts.delete("output/ftjob-1")
    assert backup.take(named(open=("ftjob-1",))) == {"output/ftjob-1"}
    assert backup.take(named(ended=("ftjob-1",))) == set()


def test_what_an_earlier_backup_has_is_linked_and_not_copied(
    artifacts: Disturbed, tmp_path: Path
) -> None:
    artifacts.put("files/a", b"same")
    artifacts.put("files/b", b"other")
    every = named(keys={"files/a", "files/b"})
    first = new_backup(tmp_path / "1", artifacts)
    first.take(every)
    finish(first)
    artifacts.clock.advance(5)
    artifacts.put("files/b", b"changed")
    second = new_backup(tmp_path / "2", artifacts, since=tmp_path / "1")
    second.take(every)
    finish(second)
    EarlierBackup(tmp_path / "2").verify()
    places = [tmp_path / number / "artifacts/files" for number in "12"]
    assert places[0].joinpath("a").samefile(places[1] / "a")
    assert [place.joinpath("b").read_bytes() for place in places] == [b"other", b"changed"]


def test_the_same_content_is_kept_once_and_comes_back_twice(
    artifacts: Disturbed, tmp_path: Path
) -> None:
    for key in ("output/j/a", "output/j/checkpoint-1/a"):
        artifacts.put(key, b"weights" * 1000)
    backup = new_backup(tmp_path / "b", artifacts)
    backup.take(named(ended=("j",)))
    finish(backup)
    place = tmp_path / "b/artifacts/output/j"
    assert (place / "a").samefile(place / "checkpoint-1/a")
    elsewhere = MemoryArtifacts()
    EarlierBackup(tmp_path / "b").put_into(elsewhere)
    assert elsewhere.get("output/j/a") == elsewhere.get("output/j/checkpoint-1/a")


@pytest.mark.parametrize("name", ["tunesmith.db", "settings.toml", "artifacts/files/a"])
@pytest.mark.parametrize("blow", ["change", "remove"])
def test_a_file_that_is_not_as_it_was_made_is_named(
    artifacts: Disturbed, tmp_path: Path, name: str, blow: str
) -> None:
    artifacts.put("files/a", b"rows")
    backup = new_backup(tmp_path / "b", artifacts)
    backup.take(named(keys={"files/a"}))
    backup.finish(settings=b"text", version="1", created_at=0, missing=())
    path = tmp_path / "b" / name
    if blow == "remove":
        path.unlink()
    else:
        path.write_bytes(b"rowz")
    with pytest.raises(SettingsError, match=name):
        EarlierBackup(tmp_path / "b").verify()


def test_a_backup_takes_no_room_that_is_kept_free(artifacts: Disturbed, tmp_path: Path) -> None:
    artifacts.put("files/a", b"x" * 100)
    backup = new_backup(tmp_path / "b", artifacts, free=1050)
    with pytest.raises(DiskFullError):
        backup.take(named(keys={"files/a"}))


@pytest.mark.parametrize("content", [None, "{", json.dumps({"format": 2})])
def test_a_folder_that_is_no_backup_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SettingsError, match="backup"):
        EarlierBackup(tmp_path)


def test_nobody_else_can_read_a_backup(artifacts: Disturbed, tmp_path: Path) -> None:
    artifacts.put("files/a", b"rows")
    backup = new_backup(tmp_path / "b", artifacts)
    backup.take(named(keys={"files/a"}))
    finish(backup)
    made = [path for path in (tmp_path / "b").rglob("*") if path.name != "tunesmith.db"]
    assert {path.stat().st_mode & 0o077 for path in made if path.is_file()} == {0}

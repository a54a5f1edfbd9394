"""`tunesmith backup` and `tunesmith restore`, and what they refuse."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from typer.testing import CliRunner, Result

from postgres import Server, server_or_skip
from tunesmith.artifacts.backup import entry_of
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.cli.database import open_store
from tunesmith.cli.folder import sharing
from tunesmith.cli.main import app
from tunesmith.domain.backups import Manifest
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.keys import Scope, new_key
from tunesmith.store.schema import HEAD, MIGRATIONS


@pytest.fixture(autouse=True)
def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_MIN_FREE_BYTES", "1000")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with server_or_skip() as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a file, a key and settings."""
    return filled(tmp_path / "data")


def filled(folder: Path, url: str | None = None) -> Path:
    """Put a file, a key and settings into a new `folder`, with the records at `url`."""
    folder.mkdir()
    store = open_store(folder, url)
    file = File(
        id="file-a",
        filename="a.jsonl",
        purpose=Purpose.FINE_TUNE,
        bytes=4,
        sha256="0",
        created_at=0,
        key="files/a",
    )
    LocalArtifacts(folder).put("files/a", b"rows")
    store.add_file(file)
    store.add_key(new_key("default", "me", scope=Scope.READ, now=0, expires_at=None)[1])
    store.close()
    (folder / "settings.toml").write_text('organization = "acme"\n')
    for name in ("answers.token", "page/cookie_secret", "ray/token"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    return folder


def check_whole(folder: Path, url: str | None = None) -> None:
    """See that all that `filled` put there is in `folder`, with the records at `url`."""
    store = open_store(folder, url)
    assert store.file("file-a").filename == "a.jsonl"
    assert [key.name for key in store.list_keys()] == ["me"]
    store.close()
    assert LocalArtifacts(folder).get("files/a") == b"rows"


def run(data: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, words), "--data", str(data)])


def test_a_folder_comes_back_elsewhere(data: Path, tmp_path: Path) -> None:
    made = run(data, "backup", tmp_path / "b")
    assert made.exit_code == 0, made.stderr
    elsewhere = tmp_path / "elsewhere"
    back = run(elsewhere, "restore", tmp_path / "b")
    assert back.exit_code == 0, back.stderr
    check_whole(elsewhere)
    assert (elsewhere / "settings.toml").read_text() == 'organization = "acme"\n'


def test_what_the_next_service_makes_anew_stays_behind(data: Path, tmp_path: Path) -> None:
    run(data, "backup", tmp_path / "b")
    assert "secret" not in {
        path.read_bytes().decode(errors="ignore")
        for path in (tmp_path / "b").rglob("*")
        if path.is_file()
    }


def test_database_and_settings_are_for_their_owner_alone(data: Path, tmp_path: Path) -> None:
    run(data, "backup", tmp_path / "b")
    run(tmp_path / "new", "restore", tmp_path / "b")
    for folder in (tmp_path / "b", tmp_path / "new"):
        assert folder.stat().st_mode & 0o777 == 0o700
        for name in ("tunesmith.db", "settings.toml"):
            assert (folder / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("target", ["data/b", "there"])
def test_a_place_that_cannot_become_a_backup_is_refused(
    data: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "there").mkdir()
    refused = run(data, "backup", tmp_path / target)
    assert refused.exit_code == 1
    assert "Name a" in refused.stderr


def test_a_folder_without_a_database_is_not_backed_up(tmp_path: Path) -> None:
    refused = run(tmp_path, "backup", tmp_path / "b")
    assert refused.exit_code == 1
    assert "is no data folder" in refused.stderr


def test_a_backup_that_fails_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_MIN_FREE_BYTES", str(2**60))
    refused = run(data, "backup", tmp_path / "b")
    assert refused.exit_code == 1
    assert "Nothing was made" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_folder_that_is_not_empty_is_not_restored_into(data: Path, tmp_path: Path) -> None:
    run(data, "backup", tmp_path / "b")
    before = (data / "tunesmith.db").read_bytes()
    refused = run(data, "restore", tmp_path / "b")
    assert refused.exit_code == 1
    assert "is not empty" in refused.stderr
    assert (data / "tunesmith.db").read_bytes() == before


def test_a_folder_that_a_service_waits_in_is_not_restored_into(data: Path, tmp_path: Path) -> None:
    run(data, "backup", tmp_path / "b")
    (tmp_path / "new").mkdir()
    with sharing(tmp_path / "new", patience=0):
        refused = run(tmp_path / "new", "restore", tmp_path / "b")
    assert refused.exit_code == 1
    assert "A service uses" in refused.stderr


def test_a_damaged_backup_touches_nothing(data: Path, tmp_path: Path) -> None:
    run(data, "backup", tmp_path / "b")
    (tmp_path / "b/artifacts/files/a").write_bytes(b"rowz")
    refused = run(tmp_path / "new", "restore", tmp_path / "b")
    assert refused.exit_code == 1
    assert "'artifacts/files/a' has other content" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_restore_that_fails_leaves_the_folder_empty(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(data, "backup", tmp_path / "b")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tunesmith.cli.backups.copy_database", fail)
    refused = run(tmp_path / "new", "restore", tmp_path / "b")
    assert refused.exit_code == 1
    assert "disk is full" in refused.stderr
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["serve.lock"]


def set_schema(backup: Path, revision: str) -> None:
    """Make the backup's database one of another schema, and its manifest agree."""
    with closing(sqlite3.connect(backup / "tunesmith.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
        connection.commit()


def test_a_newer_schema_is_refused_before_anything_is_touched(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(data, "backup", tmp_path / "b")
    set_schema(tmp_path / "b", "9999")
    monkeypatch.setattr("tunesmith.artifacts.backup.EarlierBackup.verify", lambda _: None)
    refused = run(tmp_path / "new", "restore", tmp_path / "b")
    assert refused.exit_code == 1
    assert "schema 9999" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_second_backup_holds_once_what_has_not_changed(data: Path, tmp_path: Path) -> None:
    run(data, "backup", tmp_path / "1")
    made = run(data, "backup", tmp_path / "2", "--since", tmp_path / "1")
    assert made.exit_code == 0, made.stderr
    first, second = (tmp_path / name / "artifacts/files/a" for name in "12")
    assert first.samefile(second)
    shutil.rmtree(tmp_path / "1")
    assert run(tmp_path / "new", "restore", tmp_path / "2").exit_code == 0


def test_what_was_lost_before_is_told_and_the_rest_is_backed_up(data: Path, tmp_path: Path) -> None:
    LocalArtifacts(data).delete("files/a")
    made = run(data, "backup", tmp_path / "b")
    assert made.exit_code == 0
    assert "files/a had been lost from the data folder before" in made.stderr


def test_a_backup_of_an_older_schema_is_brought_forward(data: Path, tmp_path: Path) -> None:
    run(data, "backup", tmp_path / "b")
    old = tmp_path / "b/tunesmith.db"
    old.unlink()
    engine = create_engine(f"sqlite:///{old}")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, "0005")
    engine.dispose()
    manifest = tmp_path / "b/manifest.json"
    told = Manifest.model_validate_json(manifest.read_bytes())
    told = told.model_copy(update={"database": entry_of(old)})
    manifest.write_text(told.model_dump_json())
    back = run(tmp_path / "new", "restore", tmp_path / "b")
    assert back.exit_code == 0, back.stderr
    with closing(sqlite3.connect(tmp_path / "new/tunesmith.db")) as checked:
        assert checked.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


@pytest.mark.parametrize("taken_of", ["postgresql", "sqlite"])
@pytest.mark.parametrize("put_into", ["postgresql", "sqlite"])
def test_records_come_back_into_either_database(
    tmp_path: Path, taken_of: str, put_into: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(kind: str) -> str | None:
        monkeypatch.delenv("TUNESMITH_DATABASE_URL", raising=False)
        if kind == "sqlite":
            return None
        url = server.url(server.database())
        monkeypatch.setenv("TUNESMITH_DATABASE_URL", url)
        return url

    data = filled(tmp_path / "data", choose(taken_of))
    made = run(data, "backup", tmp_path / "b")
    assert made.exit_code == 0, made.stderr
    assert (data / "tunesmith.db").exists() == (taken_of == "sqlite")
    assert (tmp_path / "b/tunesmith.db").stat().st_mode & 0o777 == 0o600

    url = choose(put_into)
    back = run(tmp_path / "new", "restore", tmp_path / "b")
    assert back.exit_code == 0, back.stderr
    check_whole(tmp_path / "new", url)
    databases = [path.name for path in (tmp_path / "new").glob("tunesmith*")]
    assert databases == (["tunesmith.db"] if put_into == "sqlite" else [])
    assert ("tunesmith:***@" in back.stdout) == (put_into == "postgresql")


def test_a_database_in_use_is_not_restored_into(
    data: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(data, "backup", tmp_path / "b")
    url = server.url(server.database())
    filled(tmp_path / "other", url)
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", url)
    refused = run(tmp_path / "new", "restore", tmp_path / "b")
    assert refused.exit_code == 1
    assert "is not empty" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_no_service_starts_on_the_database_that_a_backup_was_taken_of(
    tmp_path: Path, server: Server
) -> None:
    url = server.url(server.database())
    data = filled(tmp_path / "data", url)
    settings = f'database_url = "{url}"\n'
    (data / "settings.toml").write_text(settings)
    assert run(data, "backup", tmp_path / "b").exit_code == 0
    back = run(tmp_path / "new", "restore", tmp_path / "b")
    assert back.exit_code == 0, back.stderr
    assert "Mend database_url there" in back.stderr
    assert not (tmp_path / "new/settings.toml").exists()
    assert (tmp_path / "new/settings.restored.toml").read_text() == settings
    check_whole(tmp_path / "new")


def test_a_folder_that_is_none_is_not_backed_up_beside_postgresql(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", server.url(server.database()))
    refused = run(tmp_path / "typo", "backup", tmp_path / "b")
    assert refused.exit_code == 1
    assert "is no data folder" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("database", "first"), [("", "a copy of '"), ("postgresql://a:s3cret@h/d", "pg_dump")]
)
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_what_is_in_a_bucket_is_left_to_the_bucket(
    data: Path, database: str, first: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_ARTIFACTS_URL", "s3://bucket/prefix")
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", database)
    refused = run(data, command, data.parent / "b")
    assert refused.exit_code == 1
    assert "TUNESMITH_ARTIFACTS_URL" in refused.stderr
    assert f"Keep the records by {first}" in refused.stderr
    assert "by its own versions or a copy" in refused.stderr
    assert "s3cret" not in refused.stderr
    assert [path.name for path in data.parent.iterdir()] == ["data"]

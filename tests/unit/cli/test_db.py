from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner, Result

from postgres import Server, server_or_skip
from tunesmith.cli.database import open_store
from tunesmith.cli.folder import sharing
from tunesmith.cli.main import app
from tunesmith.domain.keys import Scope, new_key
from tunesmith.domain.liveness import CONTROLLER
from tunesmith.store.schema import HEAD


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with server_or_skip() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database that the commands work on."""
    monkeypatch.setenv("TUNESMITH_DATA", str(tmp_path / "data"))
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/tunesmith.db"
    server: Server = request.getfixturevalue("server")
    url = server.url(server.database())
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", url)
    return url


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["db", *words])


def test_an_empty_database_is_told_and_upgraded_once(url: str, tmp_path: Path) -> None:
    empty = run("check")
    assert (empty.exit_code, empty.stdout) == (1, "")
    assert "has no schema yet" in empty.stderr
    assert "`tunesmith db upgrade`" in empty.stderr
    assert not (tmp_path / "data").exists()

    assert f"has schema {HEAD}; it was empty." in run("upgrade").stdout
    assert f"has schema {HEAD} already." in run("upgrade").stdout

    checked = run("check")
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert f"has schema {HEAD}, this version's." in checked.stdout
    assert url.partition(":")[0] in checked.stdout


@pytest.mark.parametrize(
    ("schema", "mend"), [("0001", "Back it up; then run"), ("9999", "or a newer one")]
)
def test_another_schema_ends_the_check_with_what_to_do(url: str, schema: str, mend: str) -> None:
    run("upgrade")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{schema}'"))
    engine.dispose()
    checked = run("check")
    assert checked.exit_code == 1
    assert f"has schema {schema}; this version's is {HEAD}." in checked.stderr
    assert mend in checked.stderr


def test_no_command_shows_the_password(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", server.url("absent"))
    for command in ("upgrade", "check"):
        told = run(command)
        assert told.exit_code == 1
        assert 'database "absent" does not exist' in told.stderr
        assert "tunesmith:***@" in told.stderr
        assert "ssword" not in told.output


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a key in its database."""
    monkeypatch.setenv("TUNESMITH_DATA", str(tmp_path))
    store = open_store(tmp_path)
    store.add_key(new_key("default", "me", scope=Scope.READ, now=0, expires_at=None)[1])
    store.close()
    return tmp_path


def test_records_of_sqlite_are_copied_and_told_where_to_find(data: Path, server: Server) -> None:
    url = server.url(server.database())
    copied = run("copy", "--to", url)
    assert copied.exit_code == 0, copied.stderr
    assert "has the 2 records of sqlite:///" in copied.stdout
    assert "TUNESMITH_DATABASE_URL" in copied.stdout
    assert "ssword" not in copied.output
    for place in (url, None):
        store = open_store(data, place)
        assert [key.name for key in store.list_keys()] == ["me"]
        store.close()

    again = run("copy", "--to", url)
    assert again.exit_code == 1
    assert "is not empty" in again.stderr


def test_records_go_back_to_sqlite(
    data: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url(server.database())
    run("copy", "--to", url)
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", url)
    back = run("copy", "--to", f"sqlite:///{data}/back.db")
    assert back.exit_code == 0, back.stderr
    store = open_store(data, f"sqlite:///{data}/back.db")
    assert [key.name for key in store.list_keys()] == ["me"]


def test_records_that_a_service_uses_are_not_copied(data: Path) -> None:
    target = data / "target.db"
    with sharing(data, patience=0):
        held = run("copy", "--to", f"sqlite:///{target}")
    assert held.exit_code == 1
    assert "A service uses the data folder" in held.stderr
    assert "End it first." in held.stderr

    store = open_store(data)
    store.take_lease(CONTROLLER, "far-1")
    store.close()
    led = run("copy", "--to", f"sqlite:///{target}")
    assert led.exit_code == 1
    assert "A controller, far-1, works on the database." in led.stderr
    assert not target.exists()


def test_a_folder_without_records_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_DATA", str(tmp_path / "typo"))
    refused = run("copy", "--to", f"sqlite:///{tmp_path}/target.db")
    assert refused.exit_code == 1
    assert "has no 'tunesmith.db'" in refused.stderr
    assert list(tmp_path.iterdir()) == []

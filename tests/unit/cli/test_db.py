from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner, Result

from postgres import Server, server_or_skip
from tunesmith.cli.main import app
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

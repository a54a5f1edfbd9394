"""The schema: what the migrations make is what the tables say and what the values need."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Table, create_engine, inspect, text

from tunesmith.domain.errors import SettingsError
from tunesmith.domain.estimates import Estimate
from tunesmith.domain.events import Checkpoint, Event
from tunesmith.domain.files import File
from tunesmith.domain.jobs import Job
from tunesmith.domain.keys import ApiKey
from tunesmith.domain.models import TunedModel
from tunesmith.domain.projects import Project
from tunesmith.domain.uploads import Upload, UploadPart
from tunesmith.domain.values import Value
from tunesmith.domain.webhooks import Delivery, WebhookEndpoint
from tunesmith.store.rows import to_row
from tunesmith.store.schema import HEAD, MIGRATIONS, upgrade
from tunesmith.store.sql import SqlStore
from tunesmith.store.tables import (
    API_KEYS,
    CHECKPOINTS,
    ESTIMATES,
    EVENTS,
    FILES,
    JOBS,
    METADATA,
    PROJECTS,
    TUNED_MODELS,
    UPLOAD_PARTS,
    UPLOADS,
    WEBHOOK_DELIVERIES,
    WEBHOOK_ENDPOINTS,
)

if TYPE_CHECKING:
    from unit.store.conftest import Examples


def test_migrations_from_empty_make_the_tables(url: str) -> None:
    upgrade(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_migrations_number_deleted_rows_never_again(url: str, tmp_path: Path) -> None:
    upgrade(url)
    with sqlite3.connect(tmp_path / "tunesmith.db") as connection:
        made = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    numbered = [name for name, table in METADATA.tables.items() if "seq" in table.columns]
    assert numbered
    assert all("AUTOINCREMENT" in made[name] for name in numbered)


def test_the_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_an_older_database_is_brought_up_with_what_it_holds(
    url: str, open_store: Callable[[], SqlStore], examples: Examples, revision: str
) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, revision)
        for table, value in ((FILES, examples.file("a")), (JOBS, examples.job("1"))):
            there = {column["name"] for column in inspect(connection).get_columns(table.name)}
            row = {name: field for name, field in to_row(value).items() if name in there}
            connection.execute(table.insert().inline().values(row))
    engine.dispose()
    store = open_store().within("default")
    assert store.file("file-a") == examples.file("a")
    assert store.job("ftjob-1") == examples.job("1")
    assert store.list_jobs(after=None, limit=5, metadata={"team": "blue"}).items
    assert store.list_parts("upload_1") == []


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (File, FILES),
        (Upload, UPLOADS),
        (UploadPart, UPLOAD_PARTS),
        (Job, JOBS),
        (Event, EVENTS),
        (Checkpoint, CHECKPOINTS),
        (Estimate, ESTIMATES),
        (TunedModel, TUNED_MODELS),
        (Project, PROJECTS),
        (ApiKey, API_KEYS),
        (WebhookEndpoint, WEBHOOK_ENDPOINTS),
        (Delivery, WEBHOOK_DELIVERIES),
    ],
)
def test_each_field_has_its_column(kind: type[Value], table: Table) -> None:
    assert {column.name for column in table.columns} == {"seq", *kind.model_fields}


def test_processes_that_migrate_at_once_agree(url: str, open_store: Callable[[], SqlStore]) -> None:
    call = "import sys; from tunesmith.store.schema import upgrade; upgrade(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", call, url]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert open_store().open_jobs() == []


def test_an_interrupted_migration_leaves_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tunesmith.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tuned_models (seq INTEGER)")
    with pytest.raises(SettingsError, match="tuned_models already exists"):
        upgrade(url)
    with sqlite3.connect(path) as connection:
        left = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert left == [("tuned_models",)]


def test_a_newer_schema_is_refused_and_named(url: str) -> None:
    upgrade(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(SettingsError, match=f"schema 9999.*knows only up to {HEAD}"):
        upgrade(url)


def test_what_is_no_database_is_refused_and_named(url: str, tmp_path: Path) -> None:
    (tmp_path / "tunesmith.db").write_text("This is a diary. " * 100)
    with pytest.raises(SettingsError, match=r"tunesmith\.db cannot be used: .*not a database"):
        upgrade(url)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent/tunesmith\.db cannot be used"):
        upgrade(f"sqlite:///{tmp_path}/absent/tunesmith.db")


def test_a_database_at_the_head_opens_without_alembic(url: str) -> None:
    upgrade(url)
    call = (
        "import sys; from tunesmith.store.schema import upgrade; upgrade(sys.argv[1]); "
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", call, url], check=False).returncode == 0

"""The schema: what the migrations make is what the tables say and what the values need."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Table, create_engine, inspect, text

from stores import SQLITE_ALONE
from tunesmith.domain.clock import FakeClock
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
from tunesmith.store.rules import creation_event
from tunesmith.store.schema import HEAD, MIGRATIONS, revision, upgrade
from tunesmith.store.sql import SqlStore
from tunesmith.store.tables import (
    API_KEYS,
    CHECKPOINTS,
    ESTIMATES,
    EVENTS,
    FILES,
    JOB_LABELS,
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

EARLIER = [f"{number:04}" for number in range(1, int(HEAD))]
"""All revisions that a database may have had before."""


def test_migrations_from_empty_make_the_tables(empty_url: str) -> None:
    assert upgrade(empty_url) is None
    engine = create_engine(empty_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


@SQLITE_ALONE
def test_migrations_number_deleted_rows_never_again(url: str, tmp_path: Path) -> None:
    upgrade(url)
    with sqlite3.connect(tmp_path / "tunesmith.db") as connection:
        made = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    numbered = [name for name, table in METADATA.tables.items() if "seq" in table.columns]
    assert numbered
    assert all("AUTOINCREMENT" in made[name] for name in numbered)


def test_the_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


@pytest.mark.parametrize("before", EARLIER)
def test_an_older_database_is_brought_up_with_what_it_holds(
    empty_url: str, clock: FakeClock, examples: Examples, before: str
) -> None:
    job = examples.job("1")
    checkpoint, model = examples.checkpoint(job, 5), examples.model(job)
    rows: list[tuple[Table, Value]] = [
        (FILES, examples.file("a")),
        (JOBS, job),
        (EVENTS, creation_event(job)),
        (CHECKPOINTS, checkpoint),
        (TUNED_MODELS, model),
    ]
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, before)
        for table, value in rows:
            there = {column["name"] for column in inspect(connection).get_columns(table.name)}
            row = {name: field for name, field in to_row(value).items() if name in there}
            connection.execute(table.insert().inline().values(row))
        if inspect(connection).has_table(JOB_LABELS.name):
            label = {"job_seq": 1, "key": "team", "value": "blue"}
            connection.execute(JOB_LABELS.insert().values(label))
    engine.dispose()
    assert upgrade(empty_url) == before
    opened = SqlStore.open(empty_url, clock)
    store = opened.within("default")
    assert store.file("file-a") == examples.file("a")
    assert store.job("ftjob-1") == job
    assert len(store.list_events(job.id, after=None, limit=5).items) == 1
    assert store.list_checkpoints(job.id, after=None, limit=5).items == (checkpoint,)
    assert store.list_tuned_models() == [model]
    assert [project.name for project in store.list_projects()] == ["default"]
    assert store.list_jobs(after=None, limit=5, metadata={"team": "blue"}).items
    assert store.list_parts("upload_1") == []
    opened.close()


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


def test_processes_that_migrate_at_once_agree(empty_url: str) -> None:
    call = "import sys; from tunesmith.store.schema import upgrade; upgrade(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", call, empty_url]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert revision(empty_url) == HEAD


def test_an_interrupted_migration_leaves_nothing(empty_url: str) -> None:
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE tuned_models (seq INTEGER)"))
    with pytest.raises(SettingsError, match=r'tuned_models"? already exists'):
        upgrade(empty_url)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["tuned_models"]
    engine.dispose()


def test_a_newer_schema_is_refused_and_named(empty_url: str) -> None:
    upgrade(empty_url)
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(SettingsError, match=f"schema 9999.*knows only up to {HEAD}"):
        upgrade(empty_url)


@SQLITE_ALONE
def test_what_is_no_database_is_refused_and_named(url: str, tmp_path: Path) -> None:
    (tmp_path / "tunesmith.db").write_text("This is a diary. " * 100)
    with pytest.raises(SettingsError, match=r"tunesmith\.db cannot be used: .*not a database"):
        upgrade(url)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent/tunesmith\.db cannot be used"):
        upgrade(f"sqlite:///{tmp_path}/absent/tunesmith.db")


def test_a_database_at_the_head_opens_without_alembic(url: str) -> None:
    call = (
        "import sys; from tunesmith.store.schema import upgrade; upgrade(sys.argv[1]); "
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", call, url], check=False).returncode == 0

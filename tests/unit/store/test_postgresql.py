"""What is peculiar to PostgreSQL, and what is told where it cannot be used."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import DBAPIError

from stores import POSTGRESQL_ALONE, add_job
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.errors import BusyError, NotFoundError, SettingsError
from tunesmith.domain.spec import JobRequest, LoraSpec
from tunesmith.store import database, postgresql
from tunesmith.store.database import open_database, shown, writing
from tunesmith.store.schema import revision, upgrade
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from postgres import Server
    from unit.store.conftest import Examples, Steps

Open = Callable[[], SqlStore]
NOWHERE = "postgresql://ann:s3cret-word@localhost:1/tunes?host=/nowhere&password=s3cret-word"


@POSTGRESQL_ALONE
def test_one_writes_at_a_time_and_rows_are_numbered_as_others_see_them(
    open_store: Open, examples: Examples, steps: Steps
) -> None:
    one, other, reader = open_store(), open_store(), open_store()
    job = steps.running(one)
    before = reader.news(behind=None).newest
    lines = [examples.run_event(1)]
    late = threading.Thread(target=lambda: other.ingest(job.id, lines, checkpoints=[]))
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with writing(one._engine) as connection:
        late.start()
        while late.is_alive() and not connection.exec_driver_sql(waits).scalar():
            pass
        assert late.is_alive()
        # Its number is drawn now and seen at the commit; whoever came later has a higher one.
        connection.exec_driver_sql(
            "INSERT INTO events (id, job_id, created_at, level, type, message) "
            "VALUES ('ftevent-early', 'ftjob-1', 1, 'info', 'message', 'early')"
        )
        assert reader.news(behind=before).job_ids == frozenset()
    late.join()
    told = reader.list_events(job.id, after=None, limit=2).items
    assert [event.message for event in told] == ["line 1", "early"]


@POSTGRESQL_ALONE
def test_a_write_that_waits_in_vain_says_when_to_try_again_and_reads_go_on(
    open_store: Open, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = open_store(), open_store()
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    with writing(one._engine):
        with pytest.raises(BusyError) as told:
            other.add_file(examples.file("a"))
        assert other.list_keys() == []
    assert (told.value.code, told.value.retry_after > 0) == ("database_busy", True)
    other.add_file(examples.file("a"))


@POSTGRESQL_ALONE
def test_a_process_that_stands_still_in_a_write_keeps_nobody_waiting_for_long(
    open_store: Open, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "IDLE", 0.05)
    one, other = open_store(), open_store()

    def stand_still() -> None:
        with writing(one._engine) as connection:
            # It is the server that ends the other's wait: nothing here does.
            other.add_file(examples.file("a"))
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(BusyError) as told:
        stand_still()
    assert told.value.code == "database_unavailable"
    assert other.file("file-a") == examples.file("a")


@POSTGRESQL_ALONE
def test_a_server_that_goes_away_is_named_and_used_again_once_it_is_back(
    open_store: Open, server: Server, examples: Examples
) -> None:
    store = open_store()
    store.add_file(examples.file("a"))
    server.stop()
    try:
        for ask in (lambda: store.file("file-a"), lambda: store.add_file(examples.file("b"))):
            with pytest.raises(BusyError) as told:
                ask()
            assert told.value.code == "database_unavailable"
    finally:
        server.start()
    assert store.file("file-a") == examples.file("a")
    store.add_file(examples.file("b"))


@POSTGRESQL_ALONE
def test_a_read_cannot_write(open_store: Open) -> None:
    with (
        pytest.raises(DBAPIError, match="read-only transaction"),
        database.reading(open_store()._engine) as connection,
    ):
        connection.exec_driver_sql("DELETE FROM projects")


def test_the_character_nul_breaks_neither_a_write_nor_a_look_into_json(
    open_store: Open, examples: Examples
) -> None:
    store = open_store()
    asked = JobRequest(lora=LoraSpec(targets=("q_proj",)), metadata={"team": "a\0b\\u0000\\\0"})
    add_job(store, examples.job("1").model_copy(update={"request": asked}))
    add_job(store, examples.job("2"))
    with pytest.raises(NotFoundError):
        store.file("file-\0")
    kept = (store.job("ftjob-1").request.metadata or {})["team"]
    assert kept.replace("\0", "\ufffd") == "a\ufffdb\\u0000\\\ufffd"
    model = examples.model(examples.job("2"))
    with pytest.raises(NotFoundError):
        store.retire_model(model.name)


def test_a_loss_that_is_no_number_is_kept(
    open_store: Open, examples: Examples, steps: Steps
) -> None:
    store = open_store()
    job = steps.running(store)
    lost = examples.metrics(5).model_copy(update={"train_loss": math.nan})
    checkpoint = examples.checkpoint(job, 5).model_copy(update={"metrics": lost})
    store.ingest(job.id, [], checkpoints=[checkpoint])
    [kept] = store.list_checkpoints(job.id, after=None, limit=5).items
    assert math.isnan(kept.metrics.train_loss)


@pytest.mark.parametrize("use", [upgrade, revision])
def test_a_server_that_does_not_answer_is_named_without_the_password(
    use: Callable[[str], object],
) -> None:
    with pytest.raises(SettingsError, match=r"ann:\*\*\*@.*cannot be used: .*/nowhere") as told:
        use(NOWHERE)
    assert "s3cret-word" not in told.value.message


def test_an_url_is_shown_without_its_passwords() -> None:
    assert shown("postgres://a:b@h/d?password=b") == "postgresql+psycopg://a:***@h/d"
    assert shown("sqlite:////srv/t.db") == "sqlite:////srv/t.db"


@pytest.mark.parametrize("url", ["mysql://a:s3cret@h/d", "postgresql://a:s3cret@h:x/d", "s3cret"])
def test_another_database_is_refused_without_a_word_of_the_url(url: str) -> None:
    with pytest.raises(SettingsError, match="postgresql://user:password@host") as told:
        open_database(url)
    assert "s3cret" not in str(told.value)


def test_an_install_without_the_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"tunesmith\[postgres\]"):
        SqlStore.open(NOWHERE, SystemClock())

"""A process that is killed while it writes leaves a readable store with all that it was told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stores import SQLITE_ALONE
from tunesmith.domain.jobs import JobStatus
from tunesmith.store.database import writing
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps

WRITER = """
import json, sys
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.files import File
from tunesmith.domain.jobs import Job, JobChange
from tunesmith.domain.models import TunedModel
from tunesmith.store.sql import SqlStore

store = SqlStore.open(sys.argv[1], SystemClock())
for line in sys.stdin:
    job, model, results = json.loads(line)
    job = Job.model_validate(job)
    store.add_job(job)
    for status in ("queued", "running"):
        job = store.change_job(job, JobChange(status=status))
    model, results = TunedModel.model_validate(model), File.model_validate(results)
    store.finish_job(job, JobChange(), model=model, results=results)
    print(job.id, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 7])
def test_what_was_acknowledged_outlives_kill_9_and_nothing_is_half_done(
    url: str,
    open_store: Callable[[], SqlStore],
    examples: Examples,
    tmp_path: Path,
    acknowledged: int,
) -> None:
    open_store().add_file(examples.file("a"))
    orders = tmp_path / "orders"
    orders.write_text("".join(order(examples, number) for number in range(2000)))
    with (
        orders.open() as lines,
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url], stdin=lines, stdout=subprocess.PIPE, text=True
        ) as writer,
    ):
        assert writer.stdout is not None
        told = [writer.stdout.readline().strip() for _ in range(acknowledged)]
        writer.kill()
        told += writer.stdout.read().split()

    store = open_store()
    assert [store.job(job_id).status for job_id in told] == [JobStatus.SUCCEEDED] * len(told)
    for job in store.list_jobs(after=None, limit=2000).items:
        said = len(store.list_events(job.id, after=None, limit=9).items)
        succeeded = job.status is JobStatus.SUCCEEDED
        assert (
            said == {"validating_files": 1, "queued": 2, "running": 3, "succeeded": 5}[job.status]
        )
        assert (job.fine_tuned_model is not None) == succeeded
        assert succeeded == any(model.job_id == job.id for model in store.list_tuned_models())
        for file_id in job.result_files:
            assert store.file(file_id).id == file_id
    if url.startswith("sqlite"):
        connection = sqlite3.connect(tmp_path / "tunesmith.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def order(examples: Examples, number: int) -> str:
    job = examples.job(str(number))
    values = (job, examples.model(job), examples.results(job))
    return f"[{','.join(value.model_dump_json() for value in values)}]\n"


def test_a_store_that_is_opened_again_has_everything(
    open_store: Callable[[], SqlStore], examples: Examples, steps: Steps
) -> None:
    first = open_store()
    job = steps.running(first)
    first.ingest(job.id, [examples.run_event(1)], checkpoints=[examples.checkpoint(job, 1)])
    first.close()
    again = open_store()
    assert again.job(job.id) == first.job(job.id)
    assert len(again.list_events(job.id, after=None, limit=9).items) == 4
    assert len(again.list_checkpoints(job.id, after=None, limit=9).items) == 1


@SQLITE_ALONE
def test_commits_reach_the_disk_through_the_write_ahead_log(
    open_store: Callable[[], SqlStore],
) -> None:
    # Only a connection knows its own `synchronous`, so this looks behind the store.
    with writing(open_store()._engine) as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    full = 2
    assert settings == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }

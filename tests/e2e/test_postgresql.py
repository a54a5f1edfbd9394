"""Two services on one PostgreSQL, under load: one is killed, and nothing that was told is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import openai
import psutil
import pytest

from e2e.conftest import new_data
from e2e.rows import jsonl
from e2e.service import ENDED, Service, make_job, running, until
from e2e.test_kills import until_step
from e2e.test_two_services import holder, kill_both, until_another_leads
from postgres import Server, server_or_skip
from tunesmith.domain.liveness import CONTROLLER, STANDBY

EPOCHS = 6
STEPS = 30 * EPOCHS
VARIABLE = "TUNESMITH_DATABASE_URL"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with server_or_skip() as running:
        yield running


@pytest.fixture
def pair(server: Server, tmp_path: Path, tiny_model: Path) -> Iterator[tuple[Service, Service]]:
    """The service that leads and the one that stands by."""
    data = new_data(tmp_path, tiny_model)
    environment = {VARIABLE: server.url(server.database())}
    with running(data, environment) as first:
        until(lambda: holder(first, CONTROLLER), 20)
        with running(data, environment) as second:
            until(lambda: holder(second, STANDBY), 20)
            yield first, second


class Client:
    """Makes files and jobs through one service until it is gone, and keeps what it was told."""

    def __init__(self, service: Service, name: str) -> None:
        self._openai = service.client.with_options(max_retries=0)
        self._name = name
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self.left_alone = False

    def work(self, stop: threading.Event) -> None:
        numbers = count()
        while not stop.is_set():
            try:
                self._step(f"{self._name} {next(numbers)}")
            except openai.APIConnectionError:
                self.left_alone = True
                return

    def _step(self, text: str) -> None:
        content = jsonl([{"instruction": text, "input": "", "output": str(n)} for n in range(20)])
        files, jobs = self._openai.files, self._openai.fine_tuning.jobs
        file = files.create(file=("load.jsonl", content), purpose="fine-tune")
        self.files[file.id] = content
        job = jobs.create(model="tiny", training_file=file.id, metadata={"load": text})
        self.jobs[job.id] = file.id
        assert [each.id for each in jobs.list(metadata={"load": text})] == [job.id]
        jobs.cancel(job.id)
        self.cancelled.add(job.id)


def test_of_two_under_load_one_is_killed_and_nothing_that_was_told_is_lost(
    pair: tuple[Service, Service],
) -> None:
    first, second = pair
    job = make_job(second, epochs=EPOCHS)
    until_step(second, job, 5)
    check_kept_from_training(first)
    leader = holder(first, CONTROLLER)
    clients = [Client(service, f"{number}") for number, service in enumerate((first, second) * 2)]
    stop = threading.Event()
    with ThreadPoolExecutor(len(clients)) as threads:
        work = [threads.submit(client.work, stop) for client in clients]
        until(lambda: all(len(client.cancelled) > 2 for client in clients), 60)
        kill_both(first)
        assert until_another_leads(second, leader) < 15
        told = sum(len(client.cancelled) for client in clients)
        until(lambda: sum(len(client.cancelled) for client in clients) > told + 5, 60)
        stop.set()
    for each in work:
        each.result()
    assert [client.left_alone for client in clients] == [True, False] * 2

    check(second, clients)
    for unanswered in second.client.fine_tuning.jobs.list(limit=100):
        if unanswered.status not in ENDED and unanswered.id != job.id:
            second.client.fine_tuning.jobs.cancel(unanswered.id)
    done = second.wait(job.id)
    assert done.status == "succeeded"
    assert second.steps(job.id) == list(range(1, STEPS + 1))
    assert (second.data / "runs" / job.id / "attempt").read_text() == "1"


def check_kept_from_training(service: Service) -> None:
    """See that Ray, and what trains in it, does not learn how to reach the database."""
    assert service.process is not None
    assert VARIABLE in psutil.Process(service.process.pid).environ()
    assert not [each for each in service.ray_processes() if VARIABLE in each.environ()]
    assert "p%40ssword-1" not in service.log.read_text()


def check(service: Service, clients: list[Client]) -> None:
    """See that all is there that any client was told of, once, and as it was told."""
    api = service.client
    files = [file.id for file in api.files.list(limit=100)]
    jobs = {job.id: job for job in api.fine_tuning.jobs.list(limit=100)}
    assert len(files) == len(set(files))
    for client in clients:
        assert set(client.files) <= set(files)
        assert set(client.jobs) <= set(jobs)
        for file_id, content in client.files.items():
            assert api.files.content(file_id).content == content
        for job_id in client.cancelled:
            events = api.fine_tuning.jobs.list_events(job_id).data
            assert jobs[job_id].status == "cancelled"
            assert [event.message for event in events].count("Fine-tuning job cancelled") == 1
    # What was made without its client learning of it is whole as well.
    for job in jobs.values():
        assert job.training_file in files

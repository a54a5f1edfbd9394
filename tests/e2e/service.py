"""Runs `tunesmith serve` as a user does, for the end-to-end tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

ENDED = ("succeeded", "failed", "cancelled")
STEPS = 300
COMMAND = str(Path(sys.executable).parent / "tunesmith")
_Result = TypeVar("_Result")


class Service:
    """One `tunesmith serve` on a free port and a data folder of its own."""

    def __init__(
        self,
        data: Path,
        environment: dict[str, str] | None = None,
        *,
        options: Sequence[str] = (),
    ) -> None:
        self.data = data
        self.options = options
        self.api_key = "unused"
        self.environment = {"RAY_ADDRESS": "", **(environment or {})}
        self.log = data.parent / f"{data.name}.log"
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start, and return when the address is printed."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--port", "0", *self.options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"TUNESMITH_DATA": str(self.data)} | self.environment,
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"http://\S+(?=/v1)", first)
        assert found, f"{first!r}\n{self.log.read_text()}"
        self.url = found[0]

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=3)

    def end(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self._reap()

    def kill(self) -> None:
        """Kill the process that the user started, which is the API."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def kill_all(self, job_id: str) -> None:
        """Kill the API, the controller, Ray and the process that trains `job_id`."""
        controller = self.controller()
        victims = [*self.ray_processes(), *self.trainers(job_id), controller]
        self.kill()
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        until(lambda: not self.trainers(job_id), 10)

    def controller(self) -> psutil.Process:
        """Return the controller's process."""
        assert self.process is not None
        me = psutil.Process(self.process.pid)
        return until(lambda: next(iter(me.children()), None), 20)

    def trainer(self, job_id: str) -> psutil.Process:
        """Return the process that trains `job_id`."""
        return until(lambda: next(iter(self.trainers(job_id)), None), 90)

    def trainers(self, job_id: str) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            # A warm process's trainer has its whole title in one piece.
            words = " ".join(line).split()
            if job_id in words and any(word.startswith("tunesmith.training") for word in words):
                found.append(process)
        return found

    def ray_processes(self) -> list[psutil.Process]:
        """Return all processes that belong to the Ray head of this data folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("RAY_AUTH_TOKEN_PATH", "").startswith(str(self.data)):
                    found.append(process)
            except psutil.Error:
                continue
        own = {os.getpid(), self.process.pid if self.process else 0}
        return [process for process in found if process.pid not in own]

    def wait(self, job_id: str, *, seconds: float = 240) -> FineTuningJob:
        """Return the job once it has ended."""

        def ended() -> FineTuningJob | None:
            job = self.client.fine_tuning.jobs.retrieve(job_id)
            return job if job.status in ENDED else None

        return until(ended, seconds)

    def steps(self, job_id: str) -> list[int]:
        """Return the steps that the job's metrics events report, in their order."""
        events = list(self.client.fine_tuning.jobs.list_events(job_id, limit=100))
        return [int(e.data["step"]) for e in reversed(events) if e.type == "metrics" and e.data]  # type: ignore[index]

    def _reap(self) -> int:
        assert self.process is not None
        code = self.process.wait(90)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def make_job(
    service: Service, *, epochs: int = 10, tuning: dict[str, object] | None = None
) -> FineTuningJob:
    """Make a job of 30 steps and a checkpoint an epoch, which takes some seconds on one thread."""
    rows = [{"instruction": f"Say {n}", "input": "", "output": f"{n} and {n}"} for n in range(60)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    client = service.client
    file = client.files.create(file=("say.jsonl", content), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        seed=5,
        hyperparameters={"n_epochs": epochs, "batch_size": 2},
        extra_body={"tuning": {"cpus": 1, **(tuning or {})}},
    )


def until(look: Callable[[], _Result | None], seconds: float) -> _Result:
    """Return what `look` gives as soon as it is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = look()
        if result:
            return result
        time.sleep(0.1)
    raise AssertionError(f"{look} did not come true in {seconds} s")


@contextmanager
def running(
    data: Path, environment: dict[str, str] | None = None, *, options: Sequence[str] = ()
) -> Iterator[Service]:
    """Run a service while the block lasts; nothing of it is left behind."""
    service = Service(data, environment, options=options)
    service.start()
    try:
        yield service
    finally:
        if service.process is not None and service.process.poll() is None:
            service.end()
        for process in service.ray_processes():
            # One that was already ending may be gone by now.
            with suppress(psutil.NoSuchProcess):
                process.kill()

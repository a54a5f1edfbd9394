"""Many jobs at once on a real local cluster, while others use the API: `make bench-burst`.

A service with a Ray head of its own gets jobs that tune a random Llama of two layers for four
steps, one processor each, all at the same time. Until the last has ended, somebody asks ten times a
second for the list of jobs, for a job, or for its events.

Ends with one line of JSON:

- `jobs`, `succeeded`, `seconds`: how many there were, how many succeeded, and in what time.
- `api_p50_ms`, `api_p99_ms`: of the requests meanwhile; a p99 under 100 is wanted.
- `post_p99_ms`: of the requests that made the jobs, all of which came at once.
- `memory_growth_mb`, `files_growth`: what the API and the controller hold at the end, in memory and
  in open files, less what they held when a fifth of the jobs had ended; flat is wanted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from base_models import smollm2, tiny
from rows import generated
from server import running_server

ROWS, BATCH = 16, 4
AT_ONCE = 32
"""Connections that make jobs at the same time."""
PERIOD = 0.1
"""Seconds between two requests of whoever looks on."""


@dataclass
class Onlooker:
    """Asks the API one thing after another, and notes how long each took."""

    http: httpx.Client
    """Where it asks."""
    jobs: list[str]
    """The jobs that it asks about."""
    seconds: list[float] = field(default_factory=list)
    """How long each request took."""

    def look(self) -> None:
        """Ask once, and let the rest of the period pass."""
        number = len(self.seconds)
        job = self.jobs[number % len(self.jobs)]
        path = ("?limit=20", f"/{job}", f"/{job}/events")[number % 3]
        began = time.perf_counter()
        self.http.get(f"/fine_tuning/jobs{path}").raise_for_status()
        self.seconds.append(time.perf_counter() - began)
        time.sleep(max(0.0, PERIOD - self.seconds[-1]))


def main() -> dict[str, float]:
    """Make the jobs, look on, and print the figures as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the data folder is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        data = _data(Path(made))
        with (
            running_server(data, ray=True) as server,
            httpx.Client(base_url=f"http://127.0.0.1:{server.port}/v1", timeout=60) as http,
        ):
            figures = _burst(http, count=arguments.jobs, process=psutil.Process(server.pid))
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}))
    return figures


def _data(folder: Path) -> Path:
    data = folder / "data"
    model = tiny(folder / "tiny", tokenizer_of=smollm2(data))
    (data / "settings.toml").write_text(
        f'[models.tiny]\nsource = {{ kind = "folder", path = "{model}" }}\n', encoding="utf-8"
    )
    return data


def _burst(http: httpx.Client, *, count: int, process: psutil.Process) -> dict[str, float]:
    content = "".join(json.dumps(row) + "\n" for row in generated(ROWS)).encode()
    answer = http.post(
        "/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"}
    )
    request = {
        "model": "tiny",
        "training_file": answer.raise_for_status().json()["id"],
        "hyperparameters": {"n_epochs": 1, "batch_size": BATCH},
        "tuning": {"cpus": 1},
    }

    def make(_: int) -> tuple[str, float]:
        began = time.perf_counter()
        made = http.post("/fine_tuning/jobs", json=request).raise_for_status().json()
        return made["id"], time.perf_counter() - began

    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        jobs, posted = zip(*threads.map(make, range(count)), strict=True)
    onlooker = Onlooker(http, list(jobs))
    statuses, held = _await_end(http, onlooker, count=count, measure=lambda: _held(process))
    memory, files = (last - first for first, last in zip(*held, strict=True))
    return {
        "jobs": count,
        "succeeded": statuses["succeeded"],
        "seconds": time.monotonic() - began,
        "api_p50_ms": 1000 * statistics.median(onlooker.seconds),
        "api_p99_ms": 1000 * statistics.quantiles(onlooker.seconds, n=100)[98],
        "post_p99_ms": 1000 * statistics.quantiles(posted, n=100)[98],
        "memory_growth_mb": memory / 1e6,
        "files_growth": files,
    }


def _await_end(
    http: httpx.Client,
    onlooker: Onlooker,
    *,
    count: int,
    measure: Callable[[], tuple[float, float]],
) -> tuple[Counter[str], tuple[tuple[float, float], tuple[float, float]]]:
    """Look on until all jobs have ended; return how, and what was held early and at the end."""
    early, told = None, time.monotonic()
    while True:
        for _ in range(30):
            onlooker.look()
        statuses = _statuses(http)
        ended = statuses["succeeded"] + statuses["failed"] + statuses["cancelled"]
        if early is None and ended >= count / 5:
            early = measure()
        if time.monotonic() > told + 30:
            print(dict(statuses), flush=True)
            told = time.monotonic()
        if ended == count:
            last = measure()
            return statuses, (early or last, last)


def _statuses(http: httpx.Client) -> Counter[str]:
    found: Counter[str] = Counter()
    after: dict[str, Any] = {}
    while True:
        page = http.get("/fine_tuning/jobs", params={"limit": 100, **after}).json()
        found.update(job["status"] for job in page["data"])
        if not page["has_more"]:
            return found
        after = {"after": page["data"][-1]["id"]}


def _held(process: psutil.Process) -> tuple[float, float]:
    """Return the bytes of memory and the open files of the service's processes."""
    all_of_it = [process, *process.children()]
    return sum(one.memory_info().rss for one in all_of_it), sum(one.num_fds() for one in all_of_it)


if __name__ == "__main__":
    main()

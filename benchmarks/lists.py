"""How long lists take with 100,000 jobs and 1,000,000 events stored, for 16 clients at once.

The clients ask a real server over loopback, each as soon as its last answer is whole: job lists,
filtered ones, pages at every depth, and events. Prints the 99th percentile of each kind in
milliseconds, and how the deepest pages compare with the first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import uvloop
from server import running_server
from sqlalchemy import create_engine, insert

from tunesmith.domain.events import Event, EventLevel, EventType
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.domain.spec import JobRequest
from tunesmith.store.rows import to_row
from tunesmith.store.schema import upgrade
from tunesmith.store.tables import EVENTS, JOB_LABELS, JOBS

JOBS_STORED = 100_000
EVENTS_STORED = 1_000_000
CLIENTS = 16
SECONDS = 10.0
_START = 1_700_000_000
_BUSY_JOB = 50_000
"""The job that has a tenth of all events."""


def main() -> dict[str, float]:
    """Fill a database, ask it, print the figures and return them."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        data = Path(folder)
        _fill(data / "tunesmith.db")
        with running_server(data) as server:
            uvloop.run(_measure(server.port, seconds=1.0))
            spans = uvloop.run(_measure(server.port, seconds=arguments.seconds))
    p99s = {kind: _p99(times) for kind, times in spans.items()}
    for kind, times in spans.items():
        median = statistics.median(times)
        print(f"{kind:12} {len(times):7,} answers  p50 {median:6.2f} ms  p99 {p99s[kind]:6.2f} ms")
    depth = statistics.median(spans["deep page"]) / statistics.median(spans["page"])
    print(f"deepest pages against first ones: {depth:.2f} times the time")
    return {"list_p99_ms": max(p99s.values()), "list_depth_ratio": depth}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where the database is made; a temporary folder")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long is asked")
    return parser.parse_args()


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _fill(path: Path) -> None:
    url = f"sqlite:///{path}"
    upgrade(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        for table, rows in ((JOBS, _jobs()), (JOB_LABELS, _labels()), (EVENTS, _events())):
            while chunk := list(islice(rows, 10_000)):
                connection.execute(insert(table), chunk)
    engine.dispose()


def _jobs() -> Iterator[dict[str, Any]]:
    known = ResolvedHyperparameters(
        examples=800, n_epochs=3, batch_size=8, learning_rate_multiplier=1.0, learning_rate=5e-4
    )
    job = Job(
        id="",
        dialect=Dialect.OPENAI,
        created_at=_START,
        status=JobStatus.SUCCEEDED,
        model="smollm2-135m-instruct",
        training_file=f"file-{0:024}",
        training_filename="train.jsonl",
        request=JobRequest(suffix="bench"),
        resolved=known,
        seed=1,
        organization="tunesmith",
        fine_tuned_model="ft:smollm2-135m-instruct:tunesmith:bench:12345678",
        trained_tokens=123_456,
        finished_at=_START + 600,
    )
    row = to_row(job)
    for number in range(JOBS_STORED):
        request = row["request"] | {"metadata": _metadata(number)}
        yield row | {"id": f"ftjob-{number:024}", "request": request}


def _metadata(number: int) -> dict[str, str]:
    return {"team": f"team-{number % 100}", "stage": ("dev", "test")[number % 2]}


def _labels() -> Iterator[dict[str, Any]]:
    for number in range(JOBS_STORED):
        for key, value in _metadata(number).items():
            yield {"job_seq": number + 1, "key": key, "value": value}


def _events() -> Iterator[dict[str, Any]]:
    event = Event(
        id="",
        job_id="",
        created_at=_START,
        level=EventLevel.INFO,
        type=EventType.METRICS,
        message="Step 1: training loss=0.1234",
        data={"step": 1, "train_loss": 0.1234, "train_mean_token_accuracy": 0.9},
    )
    row = to_row(event)
    for number in range(EVENTS_STORED):
        job = number % JOBS_STORED if number % 10 else _BUSY_JOB
        yield row | {"id": f"ftevent-{number:024}", "job_id": f"ftjob-{job:024}"}


def _request(kind: str) -> str:
    """Return a path of that kind, at a place drawn anew."""
    jobs = "/v1/fine_tuning/jobs"
    busy = f"{jobs}/ftjob-{_BUSY_JOB:024}/events"
    match kind:
        case "first page":
            return jobs
        case "filter":
            return f"{jobs}?metadata%5Bteam%5D=team-{random.randrange(100)}"
        case "two filters":
            team = random.randrange(0, 100, 2)
            return f"{jobs}?metadata%5Bteam%5D=team-{team}&metadata%5Bstage%5D=dev"
        case "page":
            return f"{jobs}?after=ftjob-{JOBS_STORED - 1 - random.randrange(1000):024}"
        case "deep page":
            return f"{jobs}?after=ftjob-{random.randrange(100, 1100):024}"
        case "events":
            return f"{jobs}/ftjob-{random.randrange(1, JOBS_STORED, 10):024}/events"
        case _:
            return f"{busy}?after=ftevent-{random.randrange(EVENTS_STORED // 10) * 10:024}"


KINDS = ("first page", "filter", "two filters", "page", "deep page", "events", "busy events")


async def _measure(port: int, *, seconds: float) -> dict[str, list[float]]:
    """Return the milliseconds of each answer, by kind."""
    spans: dict[str, list[float]] = {kind: [] for kind in KINDS}
    end = time.perf_counter() + seconds
    await asyncio.gather(*(_ask(port, spans, until=end) for _ in range(CLIENTS)))
    return spans


async def _ask(port: int, spans: dict[str, list[float]], *, until: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        kind = random.choice(KINDS)
        asked = f"GET {_request(kind)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        begun = time.perf_counter()
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(_length(head))
        spans[kind].append((time.perf_counter() - begun) * 1000)
        if not head.startswith(b"HTTP/1.1 200") or not json.loads(body)["data"]:
            raise SystemExit(f"{kind}: {head.decode()}{body.decode()[:500]}")
    writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    raise SystemExit(f"An answer without its length: {head.decode()}")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main()

"""Runs the service for an example, and follows what its jobs tell."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

ENDED = ("succeeded", "failed", "cancelled")
"""The states that a job never leaves."""

console = Console()
"""Where examples print."""


@contextlib.contextmanager
def service(folder: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run `tunesmith serve` on a free port while the block lasts; yield its base URL.

    All of its state is in `folder`, which is emptied before; `settings` are further variables of
    its environment.
    """
    # An example that is told to end still ends its service.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("The example was ended."))
    folder.mkdir(exist_ok=True)
    clear(folder)
    log = folder / "service.log"
    command = [
        str(Path(sys.executable).parent / "tunesmith"),
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, "--data", str(folder)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "RAY_ADDRESS": "", **(settings or {})},
        )
        try:
            first = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://\S+/v1", first)
            if not found:
                sys.exit(f"The service did not start: {log.read_text()}")
            console.print(f"Service   [bold]{found[0]}[/] (log in {log})")
            yield found[0]
        finally:
            console.print("Ending the service …")
            process.send_signal(signal.SIGINT)
            process.wait(60)


def clear(folder: Path) -> None:
    """Forget an earlier run, but for the base model that it prepared: its jobs would go first.

    Exits where another run is going on here, or its service was left behind.
    """
    with (folder / "serve.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"A service still uses '{folder}'. End it, then try again.")
        for left in folder.iterdir():
            if left.is_dir() and left.name not in ("models", "ray"):
                shutil.rmtree(left)
            elif left.is_file() and left.suffix != ".lock":
                left.unlink()


def follow(client: OpenAI, job_id: str) -> FineTuningJob:
    """Show the job's status and, once it trains, a live bar, until it ends; exit if it failed."""
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("created", total=None, numbers="")
        while True:
            job = client.fine_tuning.jobs.retrieve(job_id)
            newest = metrics(client, job_id, pages=1)
            if newest:
                now = newest[-1]
                numbers = (
                    f"loss {now['train_loss']:.3f}  {now['tokens_per_second']:.0f} tokens/s  "
                    f"{now['seconds_left']:.0f} s left"
                )
                progress.update(
                    bar, completed=now["step"], total=now["total_steps"], numbers=numbers
                )
            progress.update(bar, description=job.status)
            if job.status in ENDED:
                break
            time.sleep(0.5)
    if job.status != "succeeded":
        sys.exit(f"The job ended as {job.status}: {job.error and job.error.message}")
    return job


def metrics(client: OpenAI, job_id: str, *, pages: int) -> list[dict[str, float]]:
    """Return the numbers of the job's newest steps, oldest first; 100 events are one page."""
    events: list[FineTuningJobEvent] = []
    page = client.fine_tuning.jobs.list_events(job_id, limit=100)
    for _ in range(pages):
        events += page.data
        if not page.has_next_page():
            break
        page = page.get_next_page()
    numbers = [event.data for event in events if event.type == "metrics" and event.data]
    return sorted((dict(each) for each in numbers), key=lambda each: each["step"])  # type: ignore[call-overload]

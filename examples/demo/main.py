"""`make demo`: a real model learns a café's till code through the service, and shows it.

Starts the service, speaks to it with the stock `openai` client alone, and fails
if the model did not go from under 20 % to over 80 % right on orders it never saw.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from till import Order, orders

MODEL = "smollm2-135m-instruct"
FOLDER = Path(".demo")
SEED = 7
EPOCHS = 2
WORST_AFTER, BEST_BEFORE = 0.80, 0.20
ENDED = ("succeeded", "failed", "cancelled")

console = Console()


def main() -> None:
    """Run the demo; exit with 1 if the model did not learn."""
    began = time.monotonic()
    # A demo that is told to end still ends its service.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("The demo was ended."))
    training, held_out = orders(training=200, held_out=40, seed=SEED)
    with service() as url:
        client = OpenAI(base_url=url, api_key="unused", max_retries=5)
        job = learn(client, training=training, held_out=held_out)
        show_curve(client, job)
    adapter = FOLDER / "output" / job.id
    console.print(f"Model     [bold]{job.fine_tuned_model}[/]\nAdapter   [bold]{adapter}[/]\n")
    before, after = show_answers(adapter, held_out)
    console.print(f"\nThe whole demo took {time.monotonic() - began:.0f} s.")
    if before >= BEST_BEFORE or after <= WORST_AFTER:
        sys.exit(f"The model did not learn: {before:.0%} before, {after:.0%} after.")


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Run `tunesmith serve` on a free port while the block lasts; yield its base URL."""
    FOLDER.mkdir(exist_ok=True)
    clear()
    log = FOLDER / "service.log"
    command = [str(Path(sys.executable).parent / "tunesmith"), "serve", "--port", "0"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, "--data", str(FOLDER)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"RAY_ADDRESS": ""},
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


def clear() -> None:
    """Forget an earlier demo, but for the base model that it prepared: its jobs would go first.

    Exits where another demo is running here, or its service was left behind.
    """
    with (FOLDER / "serve.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            sys.exit(f"Process {lock.read()} still serves '{FOLDER}'. End it, then try again.")
        for left in FOLDER.iterdir():
            if left.is_dir() and left.name not in ("models", "ray"):
                shutil.rmtree(left)
            elif left.is_file() and left.suffix != ".lock":
                left.unlink()


def learn(client: OpenAI, *, training: list[Order], held_out: list[Order]) -> FineTuningJob:
    """Upload the examples, make a job, follow it to its end, and return it."""
    files = [
        client.files.create(file=(name, as_jsonl(part)), purpose="fine-tune")
        for name, part in (("till.jsonl", training), ("till-held-out.jsonl", held_out))
    ]
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files[0].id,
        validation_file=files[1].id,
        suffix="till",
        seed=SEED,
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "n_epochs": EPOCHS,
                    "batch_size": 8,
                    "learning_rate_multiplier": 4,
                }
            },
        },
    )
    console.print(f"Job       [bold]{job.id}[/] on {len(training)} orders, {EPOCHS} epochs\n")
    job = follow(client, job.id)
    if job.status != "succeeded":
        sys.exit(f"The job ended as {job.status}: {job.error and job.error.message}")
    return job


def as_jsonl(part: list[Order]) -> bytes:
    """Return the orders as a training file in OpenAI's chat format."""
    return "".join(json.dumps(order.as_chat()) + "\n" for order in part).encode()


def follow(client: OpenAI, job_id: str) -> FineTuningJob:
    """Show the job's status and, once it trains, a live bar, until it ends."""
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
                return job
            time.sleep(0.5)


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


def show_curve(client: OpenAI, job: FineTuningJob) -> None:
    """Print the loss over the steps, with the held-out loss where it was measured."""
    series = metrics(client, job.id, pages=100)
    highest = max(each["train_loss"] for each in series)
    table = Table("step", "loss", "", "held out", title="Loss", title_justify="left", box=None)
    every = max(1, len(series) // 15)
    for each in series:
        held_out = each.get("valid_loss")
        if held_out is None and (each["step"] - 1) % every:
            continue
        bar = "█" * max(1, round(40 * each["train_loss"] / highest))
        shown = "" if held_out is None else f"{held_out:.3f}"
        table.add_row(f"{each['step']:.0f}", f"{each['train_loss']:.3f}", bar, shown)
    console.print(table)
    console.print(f"\n{job.trained_tokens:,} tokens trained")


def show_answers(adapter: Path, held_out: list[Order]) -> tuple[float, float]:
    """Print answers before and after to orders that were never learnt from; return both scores."""
    # transformers and torch take seconds to import, and the service should not wait for them.
    os.environ["TQDM_DISABLE"] = "1"
    warnings.simplefilter("ignore", FutureWarning)
    from answers import Asker, exact_match

    asker = Asker(adapter)
    before, after = asker.before(held_out), asker.after(held_out)
    table = Table("order", "before", "after", title="Held-out orders", title_justify="left")
    for order, old, new in list(zip(held_out, before, after, strict=True))[:6]:
        right = "green" if new == order.code else "red"
        table.add_row(order.said, escape(old), f"[{right}]{escape(new)}[/]")
    console.print(table)
    scores = exact_match(before, held_out), exact_match(after, held_out)
    console.print(
        f"Exact match on {len(held_out)} held-out orders: "
        f"[bold]{scores[0]:.0%}[/] before, [bold]{scores[1]:.0%}[/] after"
    )
    return scores


if __name__ == "__main__":
    main()

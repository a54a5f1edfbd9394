"""`make demo`: a real model learns a café's till code through the service, and shows it.

Starts the service, speaks to it with the stock `openai` client alone, and fails
if the model did not go from under 20 % to over 80 % right on orders it never saw.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from rich.markup import escape
from rich.table import Table

from examples.demo.till import Order, orders
from examples.serving import console, follow, metrics, service

MODEL = "smollm2-135m-instruct"
FOLDER = Path(".demo")
SEED = 7
EPOCHS = 2
WORST_AFTER, BEST_BEFORE = 0.80, 0.20


def main() -> None:
    """Run the demo; exit with 1 if the model did not learn."""
    began = time.monotonic()
    training, held_out = orders(training=200, held_out=40, seed=SEED)
    with service(FOLDER) as url:
        client = OpenAI(base_url=url, api_key="unused", max_retries=5)
        job = learn(client, training=training, held_out=held_out)
        show_curve(client, job)
    adapter = FOLDER / "output" / job.id
    console.print(f"Model     [bold]{job.fine_tuned_model}[/]\nAdapter   [bold]{adapter}[/]\n")
    before, after = show_answers(adapter, held_out)
    console.print(f"\nThe whole demo took {time.monotonic() - began:.0f} s.")
    if before >= BEST_BEFORE or after <= WORST_AFTER:
        sys.exit(f"The model did not learn: {before:.0%} before, {after:.0%} after.")


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
    return follow(client, job.id)


def as_jsonl(part: list[Order]) -> bytes:
    """Return the orders as a training file in OpenAI's chat format."""
    return "".join(json.dumps(order.as_chat()) + "\n" for order in part).encode()


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
    from examples.demo.answers import Asker, exact_match

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

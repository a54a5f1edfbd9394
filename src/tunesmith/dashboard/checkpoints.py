"""A job's checkpoints, each a model of its own."""

from __future__ import annotations

from tunesmith.dashboard.door import Door, Thing, job_path, quoted
from tunesmith.dashboard.parts import Tag, cell, link, note, panel, table
from tunesmith.dashboard.words import moment, number

_MOST = 100


async def show(place: Tag, door: Door, *, job_id: str) -> None:
    """Show the checkpoints at `place`, in the place of those that were shown before."""
    page = await door.get(job_path(job_id, "checkpoints"), limit=_MOST)
    place.clear()
    with place, panel("Checkpoints"):
        if not page["data"]:
            note("None is kept yet.")
            return
        _table(page["data"])


def _table(found: list[Thing]) -> None:
    columns = ("Step", "Loss", "Held-out loss", "Saved", "Model", "")
    with table("Checkpoints, newest first", columns):
        for each in found:
            metrics, name = each["metrics"], each["fine_tuned_model_checkpoint"]
            with Tag("tr"):
                cell("Step", number(each["step_number"]), classes="figure")
                cell("Loss", number(metrics["train_loss"]), classes="figure")
                cell("Held-out loss", number(metrics["valid_loss"]), classes="figure")
                cell("Saved", moment(each["created_at"]), classes="quiet")
                cell("Model", name, classes="name")
                with cell("Try it"):
                    link(
                        "Try it",
                        f"/playground?model={quoted(name)}",
                        aria_label=f"Try it: step {each['step_number']}",
                    )

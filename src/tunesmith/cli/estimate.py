"""`tunesmith estimate`: what a job would take, measured by the service."""

from __future__ import annotations

import json
import time

import typer

from tunesmith.cli.follow import PAUSE, patiently
from tunesmith.cli.request import AskedJob, asked_job
from tunesmith.cli.service import JOB_FAILED, Object, Service, asking
from tunesmith.cli.shown import duration, size
from tunesmith.cli.signature import filled

_PATH = "/fine_tuning/estimate"


@asking
@filled("asked", asked_job)
def estimate_job(*, service: Service, asked: AskedJob) -> None:
    """Measure what a job would take, by the options that would create it; no job comes of it.

    The exit code is 4 where it does not fit or could not be measured.
    """
    found = service.post(_PATH, asked.complete(service))
    service.tell(f"{found['id']} is measured as soon as there is room for it.")
    path = f"{_PATH}/{found['id']}"
    while found["status"] not in ("succeeded", "failed"):
        time.sleep(PAUSE)
        found = patiently(service, lambda: service.get(path))
    service.show(found, _shown(found))
    if found["status"] == "failed":
        raise typer.Exit(JOB_FAILED)


def _shown(found: Object) -> str:
    if found["status"] == "failed":
        error = found["error"]
        lines = [f"{error['message']} ({error['code']})"]
        if error["change"]:
            lines += [
                f"--set {field}={json.dumps(value)}" for field, value in _flat(error["change"])
            ]
        return "\n".join(lines)
    seconds, memory = found["estimated_seconds"], found["peak_memory_bytes"]
    lines = [
        f"It fits: {size(memory)} of memory at the most." if memory else "It fits.",
        f"{found['steps']:,} steps of {found['seconds_per_step']:.2f} s, the longest "
        f"{found['longest_step_seconds']:.2f} s.",
    ]
    if seconds:
        lines.append(
            f"From the start of training to its end: {duration(seconds['least'])} to "
            f"{duration(seconds['most'])}."
        )
    return "\n".join(lines)


def _flat(change: Object, above: str = "") -> list[tuple[str, object]]:
    """Return the fields of a change by their dotted names."""
    found: list[tuple[str, object]] = []
    for key, value in change.items():
        found += (
            _flat(value, f"{above}{key}.") if isinstance(value, dict) else [(above + key, value)]
        )
    return found

"""Jobs side by side, and the verdict on one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.cli.course import Course
from tunesmith.cli.follow import Followed
from tunesmith.cli.service import Object, Service
from tunesmith.cli.shown import duration, table

_ALWAYS = ("status", "model", "fine_tuned_model", "trained_tokens")
_ASKED = ("training_file", "validation_file", "seed", "method", "tuning")


def compared(service: Service, job_ids: Sequence[str]) -> tuple[Object, str]:
    """Return the jobs with the numbers of their courses, and a table of what differs."""
    rows = [_job(service, job_id) for job_id in job_ids]
    columns = [_column(row) for row in rows]
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = [
        (name, *values)
        for name in names
        if len(set(values := [column.get(name, "") for column in columns])) > 1
        or (name in _ALWAYS and any(values))
        or name in rows[0]["course"]
    ]
    return {"object": "list", "data": rows}, table(("", *job_ids), lines)


def verdict_lines(verdict: Object) -> str:
    """Return a verdict as lines for a person to read."""
    held_out = verdict["held_out"]
    head = (
        f"{verdict['model']} is {_OUTCOMES[verdict['outcome']]} {verdict['baseline']}, on "
        f"{held_out['lines']:,} held-out lines of {held_out['tokens']:,} tokens."
    )
    rows = [
        (measure["name"], *(_interval(measure[of]) for of in ("baseline", "tuned", "difference")))
        for measure in verdict["measures"]
    ]
    lines = [head, "", table(("MEASURE", "BASELINE", "TUNED", "DIFFERENCE"), rows)]
    best = verdict["best_checkpoint"]
    if best:
        lines.append(f"The best checkpoint is that of step {best['step']}: {best['name']}")
    if verdict["worse_count"]:
        numbers = ", ".join(str(each["line"]) for each in verdict["worse_lines"])
        lines.append(f"Lines that became worse: {verdict['worse_count']:,}, the most so: {numbers}")
    for answer in verdict["answers"]:
        lines.append(f"\nLine {answer['line']}: {answer['question']}")
        lines += [f"  {key:8}  {answer[key]}" for key in ("wanted", "baseline", "tuned")]
    if verdict["gate"]:
        gate = verdict["gate"]
        passed = "passed" if gate["passed"] else "not passed"
        lines.append(f"\nThe gate '{gate['rule']}' is {passed}: {gate['reason']}")
    return "\n".join(lines)


_OUTCOMES = {"better": "better than", "same": "no better and no worse than", "worse": "worse than"}


def _job(service: Service, job_id: str) -> Object:
    look = Followed(service, job_id).look()
    course = Course(job_id)
    course.take(look.job, look.events)
    held_out = [
        event["data"]["valid_loss"]
        for event in look.events
        if event["type"] == "metrics" and event["data"].get("valid_loss") is not None
    ]
    job = look.job
    numbers = {
        "steps": course.step or None,
        "train_loss": course.losses[-1][1] if course.losses else None,
        "valid_loss": held_out[-1] if held_out else None,
        "best_valid_loss": min(held_out, default=None),
        "seconds": job["finished_at"] - job["created_at"] if job["finished_at"] else None,
        "verdict": (job.get("verdict") or {}).get("outcome"),
    }
    return {"job": job, "course": numbers}


def _column(row: Object) -> dict[str, str]:
    job, course = row["job"], row["course"]
    column = {name: _text(job[name]) for name in _ALWAYS}
    if course["seconds"] is not None:
        column["seconds"] = duration(course["seconds"])
    column |= {name: _text(value) for name, value in course.items() if name not in column}
    for name in _ASKED:
        column |= _flat(name, job.get(name))
    return column


def _flat(name: str, value: Any) -> dict[str, str]:
    """Return the fields of a value by their dotted names."""
    if not isinstance(value, dict):
        return {name: _text(value)}
    found: dict[str, str] = {}
    for key, below in value.items():
        found |= _flat(f"{name}.{key}", below)
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _interval(value: Object) -> str:
    return f"{value['value']:.4g} ({value['low']:.4g} to {value['high']:.4g})"

"""Follows a job until it has ended, over restarts of the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import typer

from tunesmith.cli.course import Course
from tunesmith.cli.live import open_display
from tunesmith.cli.service import INTERRUPTED, JOB_FAILED, NoServiceError, Object, Service, part

PATH = "/fine_tuning/jobs"
"""Where the API has jobs."""

PAUSE = 1.0
"""Seconds between two looks at a job."""
PATIENCE = 300.0
"""Seconds that a service may be away before following ends."""

_ENDED = ("succeeded", "failed", "cancelled")
_PAGE = 1000
_FEW = 50
"""Events that are asked for where a few new ones are expected."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Look:
    """What one look at a job found."""

    job: Object
    """The job."""
    events: list[Object]
    """Its new events, oldest first."""

    @property
    def ended(self) -> bool:
        """Whether the job changes no more."""
        return self.job["status"] in _ENDED


class Followed:
    """The looks at a job, from its first event to its end.

    Iterating raises `NoServiceError` where the service is away for longer than `PATIENCE`.
    """

    def __init__(self, service: Service, job_id: str) -> None:
        """Follow the job of that id."""
        self._service = service
        self._path = f"{PATH}/{part(job_id)}"
        self._known: str | None = None

    def __iter__(self) -> Iterator[Look]:
        """Yield each look; the last one is that of the ended job."""
        while True:
            look = patiently(self._service, self.look)
            yield look
            if look.ended:
                return
            time.sleep(PAUSE)

    def look(self) -> Look:
        """Look once: at the job, and at the events that are new since the look before."""
        # The job first: the event of its end is there as soon as it has ended.
        job = self._service.get(self._path)
        events = self._new_events()
        if events:
            self._known = events[-1]["id"]
        return Look(job, events)

    def _new_events(self) -> list[Object]:
        found: list[Object] = []
        limit, after = _FEW if self._known else _PAGE, None
        while True:
            page = self._service.get(f"{self._path}/events", limit=limit, after=after)
            for event in page["data"]:
                if event["id"] == self._known:
                    return found[::-1]
                found.append(event)
            if not page["has_more"]:
                return found[::-1]
            limit, after = _PAGE, page["data"][-1]["id"]


def follow(service: Service, job_id: str) -> Object:
    """Show the course of a job until it has ended, and return it; with `--json` show nothing.

    Ctrl-C ends the command with a line that says that the job goes on.
    """
    course = Course(job_id)
    try:
        with open_display(course, silent=service.json) as display:
            for look in Followed(service, job_id):
                course.take(look.job, look.events)
                display.show()
                job = look.job
    except KeyboardInterrupt:
        service.tell(
            f"\n{job_id} goes on. `tunesmith jobs follow {job_id}` shows it again, "
            f"`tunesmith jobs cancel {job_id}` ends it."
        )
        raise typer.Exit(INTERRUPTED) from None
    return job


def end_with(service: Service, job: Object) -> None:
    """Print how a job ended. Raises `typer.Exit` where it did not succeed."""
    error = job["error"]
    if job["status"] == "succeeded":
        service.show(job, f"{job['id']} has succeeded: {job['fine_tuned_model']}")
        return
    why = f": {error['message']} ({error['code']})" if error else ""
    service.show(job, f"{job['id']} is {job['status']}{why}")
    raise typer.Exit(JOB_FAILED)


def follow_log(service: Service, job_id: str, *, tail: int) -> Iterator[Object]:
    """Yield the last lines of a job's log and each new one, until the job has ended."""
    path = f"{PATH}/{part(job_id)}"
    place: Object = {"tail": tail}
    while True:
        # Looked at before the log: what was written before the end is then read.
        ended = patiently(service, lambda: service.get(path))["status"] in _ENDED
        asked = place
        page = patiently(service, lambda: service.get(f"{path}/logs", **asked))  # noqa: B023  called at once
        yield from page["data"]
        # Where there is no log yet, it will be shown from its beginning.
        place = {"after": page["data"][-1]["id"] if page["data"] else place.get("after", 0)}
        if page["has_more"]:
            continue
        if ended:
            return
        time.sleep(PAUSE)


def patiently(service: Service, ask: Callable[[], _Answer]) -> _Answer:
    """Return what `ask` returns, asking again while the service is away.

    Raises `NoServiceError` once that is longer than `PATIENCE`.
    """
    import openai

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
            if time.monotonic() > deadline:
                raise NoServiceError(
                    f"{service.url} has not answered for {PATIENCE:.0f} s."
                ) from None
            time.sleep(PAUSE)

"""`tunesmith jobs`: jobs of a running service."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tunesmith.cli.compare import compared, verdict_lines
from tunesmith.cli.follow import PATH, Followed, end_with, follow, follow_log
from tunesmith.cli.request import AskedJob, asked_job
from tunesmith.cli.row import row_lines
from tunesmith.cli.service import Object, Service, asking, part
from tunesmith.cli.shown import clock, date, fields, table
from tunesmith.cli.signature import filled

jobs = typer.Typer(
    help="Create, follow, list, pause, resume, cancel and compare jobs.", no_args_is_help=True
)
"""`tunesmith jobs …`."""

JobId = Annotated[str, typer.Argument(help="The job's id, `ftjob-…`.")]
"""The argument that names a job."""


@jobs.command("create")
@asking
@filled("asked", asked_job)
def create_job(
    *,
    service: Service,
    asked: AskedJob,
    followed: Annotated[
        bool, typer.Option("--follow", help="Show its course until it has ended.")
    ] = False,
) -> None:
    """Create a job and print its id; with `--follow`, show its course live.

    With `--follow` the exit code is 4 where the job fails or is cancelled; Ctrl-C leaves it
    running.
    """
    job = service.post(PATH, asked.complete(service))
    if not followed:
        service.show(job, job["id"])
        return
    _follow(service, job["id"])


@jobs.command("follow")
@asking
def follow_job(job_id: JobId, *, service: Service) -> None:
    """Show a job's course live, until it has ended: progress, loss, curve and events.

    The exit code is 4 where it failed or was cancelled; Ctrl-C leaves it running.
    """
    _follow(service, job_id)


@jobs.command("list")
@asking
def list_jobs(
    *,
    service: Service,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most rows.")] = 20,
    after: Annotated[str | None, typer.Option(help="Id behind which the rows begin.")] = None,
) -> None:
    """List jobs, newest first."""
    page = service.get(PATH, limit=limit, after=after)
    rows = [
        (
            each["id"],
            each["status"],
            date(each["created_at"]),
            each["model"],
            each["fine_tuned_model"] or (each["error"] or {}).get("code") or "",
        )
        for each in page["data"]
    ]
    service.show(page, table(("ID", "STATUS", "CREATED", "MODEL", "RESULT"), rows))


@jobs.command("get")
@asking
def get_job(job_id: JobId, *, service: Service) -> None:
    """Show all that is known of a job."""
    job = service.get(f"{PATH}/{part(job_id)}")
    service.show(job, fields(job))


@jobs.command("events")
@asking
def list_events(
    job_id: JobId,
    *,
    service: Service,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most events.")] = 20,
    followed: Annotated[
        bool, typer.Option("--follow", help="Tell each event, from the first on, until it ends.")
    ] = False,
) -> None:
    """Show a job's last events, oldest first."""
    if followed:
        for step in Followed(service, job_id):
            for event in step.events:
                service.show_line(event, _line(event))
        return
    page = service.get(f"{PATH}/{part(job_id)}/events", limit=limit)
    service.show(page, "\n".join(_line(event) for event in reversed(page["data"])))


@jobs.command("logs")
@asking
def read_log(
    job_id: JobId,
    *,
    service: Service,
    tail: Annotated[int, typer.Option(min=1, max=1000, help="How many of the last lines.")] = 100,
    followed: Annotated[
        bool, typer.Option("--follow", help="Go on with each new line, until the job has ended.")
    ] = False,
) -> None:
    """Show the last lines of a job's log."""
    if followed:
        for line in follow_log(service, job_id, tail=tail):
            service.show_line(line, line["text"])
        return
    page = service.get(f"{PATH}/{part(job_id)}/logs", tail=tail)
    service.show(page, "\n".join(line["text"] for line in page["data"]))


@jobs.command("checkpoints")
@asking
def list_checkpoints(
    job_id: JobId,
    *,
    service: Service,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most rows.")] = 20,
) -> None:
    """List a job's checkpoints, newest first."""
    page = service.get(f"{PATH}/{part(job_id)}/checkpoints", limit=limit)
    rows = [
        (
            str(each["step_number"]),
            _number(each["metrics"]["train_loss"]),
            _number(each["metrics"]["valid_loss"]),
            each["fine_tuned_model_checkpoint"],
        )
        for each in page["data"]
    ]
    service.show(page, table(("STEP", "LOSS", "HELD-OUT", "MODEL"), rows))


@jobs.command("receipt")
@asking
def show_receipt(
    job_id: JobId,
    *,
    service: Service,
    line: Annotated[
        int | None, typer.Option(min=1, help="Show this line of the file; the sums unless set.")
    ] = None,
    file: Annotated[
        Literal["training", "validation"], typer.Option(help="Which file's line.")
    ] = "training",
    element: Annotated[
        int | None, typer.Option(min=1, help="Which example, where one line holds an array.")
    ] = None,
) -> None:
    """Show what a job learns from; of a line, each token, what is learnt in ⟦ ⟧."""
    path = f"{PATH}/{part(job_id)}/receipt"
    if line is None:
        sums = service.get(path)
        service.show(sums, fields(sums))
        return
    found = service.get(f"{path}/lines/{line}", file=file, element=element)
    service.show(found, row_lines(found))


@jobs.command("pause")
@asking
def pause_job(job_id: JobId, *, service: Service) -> None:
    """Pause a queued or running job: it saves a checkpoint and frees its processors."""
    _change(service, job_id, to="pause")


@jobs.command("resume")
@asking
def resume_job(job_id: JobId, *, service: Service) -> None:
    """Put a paused job back into the queue, to go on from where it stopped."""
    _change(service, job_id, to="resume")


@jobs.command("cancel")
@asking
def cancel_job(job_id: JobId, *, service: Service) -> None:
    """Cancel a job that has not ended."""
    _change(service, job_id, to="cancel")


@jobs.command("compare")
@asking
def compare_jobs(
    job_ids: Annotated[list[str], typer.Argument(help="Ids of two jobs or more.")],
    *,
    service: Service,
) -> None:
    """Show jobs side by side: how they went, and what differs in what was asked for."""
    if len(job_ids) < 2:
        raise typer.BadParameter("name two jobs or more", param_hint="JOB_IDS")
    service.show(*compared(service, job_ids))


@jobs.command("verdict")
@asking
def show_verdict(job_id: JobId, *, service: Service) -> None:
    """Show whether a job's model is better than what it was tuned from, on held-out lines."""
    verdict = service.get(f"{PATH}/{part(job_id)}/verdict")
    service.show(verdict, verdict_lines(verdict))


def _change(service: Service, job_id: str, *, to: str) -> None:
    job = service.post(f"{PATH}/{part(job_id)}/{to}")
    service.show(job, f"{job_id} is {job['status']}.")


def _follow(service: Service, job_id: str) -> None:
    job = follow(service, job_id)
    end_with(service, job)


def _line(event: Object) -> str:
    level = "" if event["level"] == "info" else f"{event['level']}: "
    return f"{clock(event['created_at'])}  {level}{event['message']}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

"""What a succeeded job leaves behind: the tuned model and its table of metrics."""

from __future__ import annotations

import hashlib

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import new_file_id
from tunesmith.domain.jobs import Job
from tunesmith.domain.models import TunedModel


def tuned_model(run: RunDirectory, job: Job, *, now: int) -> TunedModel:
    """Return the model that `job`'s run has handed out, created at `now` in unix seconds."""
    return TunedModel(
        name=run.read_spec().tuned_model,
        base=job.base,
        job_id=job.id,
        created_at=now,
        key=run.output,
    )


def results_file(artifacts: Artifacts, job: Job, *, now: int) -> File:
    """Return the run's table of metrics as a file of its own, created at `now` in unix seconds.

    The bytes stay with the run's name, so that a repeated finish makes no second copy.
    """
    key = f"runs/{job.id}/metrics.csv"
    content = artifacts.get(key)
    return File(
        id=new_file_id(),
        filename="step_metrics.csv",
        purpose=Purpose.FINE_TUNE_RESULTS,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=now,
        key=key,
    )

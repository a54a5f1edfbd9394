"""A run's verdict comes to its job with its end; a gate that was not passed ends it for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.cluster.protocol import SubmissionState
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobError, JobStatus
from tunesmith.domain.spec import JobRequest
from tunesmith.domain.verdicts import Gate, VerdictOutcome, VerdictSpec

if TYPE_CHECKING:
    from unit.controller.world import World

GATED = JobRequest(
    held_out_percent=20.0, gate=Gate.BETTER, verdict=VerdictSpec(answers=3), n_epochs=1
)


def test_the_spec_has_the_gate_and_what_is_asked(world: World) -> None:
    job = world.launched(world.add_job(request=GATED))
    spec = world.run_of(job).read_spec()
    assert (spec.gate, spec.verdict.answers) == (Gate.BETTER, 3)


def test_a_succeeded_job_carries_its_verdict(world: World) -> None:
    job = world.running(world.add_job(request=GATED))
    world.artifacts.put(f"runs/{job.id}/metrics.csv", b"step\n")
    world.write(job, outcome=RunOutcome(trained_tokens=9, verdict=VerdictOutcome.BETTER))

    ended = world.step_until(job, JobStatus.SUCCEEDED)

    assert ended.verdict is VerdictOutcome.BETTER


def test_a_gate_not_passed_fails_the_job_once_and_no_model_takes_the_name(world: World) -> None:
    job = world.running(world.add_job(request=GATED))
    error = JobError(code=FailureCode.GATE_NOT_PASSED, message="Not passed.", param="gate")
    world.write(job, outcome=RunOutcome(error=error, verdict=VerdictOutcome.WORSE))
    world.cluster.end(job.submission_id, SubmissionState.SUCCEEDED)

    ended = world.step_until(job, JobStatus.FAILED)
    for _ in range(3):
        world.controller.step()

    assert (ended.verdict, ended.error) == (VerdictOutcome.WORSE, error)
    assert ended.fine_tuned_model is None
    assert world.job(job).attempt == 1
    assert world.messages(job)[-1] == "Not passed."
    assert world.store.list_tuned_models() == []

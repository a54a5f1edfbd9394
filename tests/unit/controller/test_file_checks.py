"""What a job's policies mean for the check of its files."""

from __future__ import annotations

from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.spec import JobRequest, Method, Policy
from unit.controller.world import World, good_rows


def test_bad_rows_are_no_reason_to_fail_where_the_job_sets_them_aside(world: World) -> None:
    rows = [*good_rows(), {"instruction": "x"}]
    request = JobRequest(bad_rows=Policy.SET_ASIDE, bad_rows_share=0.2)
    world.step_until(world.add_job(rows=rows, request=request), JobStatus.QUEUED)

    strict = request.model_copy(update={"bad_rows_share": 0.01})
    failed = world.step_until(world.add_job(rows=rows, request=strict), JobStatus.FAILED)

    assert failed.error is not None
    assert "1 of 13 rows break a rule" in failed.error.message


def test_a_file_of_another_method_fails_the_job_and_names_both(world: World) -> None:
    failed = world.step_until(
        world.add_job(request=JobRequest(method=Method.DPO)), JobStatus.FAILED
    )

    assert failed.error is not None
    assert "format 'alpaca', which the method 'dpo' does not take" in failed.error.message

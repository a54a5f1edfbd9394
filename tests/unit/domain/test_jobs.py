from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.domain.errors import ConflictError
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import TRANSITIONS, Job, JobChange, JobStatus, apply_change
from tunesmith.domain.spec import JobRequest

S = JobStatus
TERMINAL = {S.SUCCEEDED, S.FAILED, S.CANCELLED}


def job(status: JobStatus) -> Job:
    return Job(
        id="ftjob-1",
        dialect=Dialect.OPENAI,
        created_at=0,
        status=status,
        model="base",
        training_file="file-1",
        training_filename="a.jsonl",
        request=JobRequest(),
        seed=1,
        organization="org",
    )


def test_the_usual_way_of_a_job_is_allowed() -> None:
    way = [S.VALIDATING_FILES, S.QUEUED, S.RUNNING, S.SUCCEEDED]
    for here, there in itertools.pairwise(way):
        assert apply_change(job(here), JobChange(status=there)).status is there


def test_every_unfinished_job_can_be_cancelled_and_can_fail() -> None:
    for status in set(JobStatus) - TERMINAL:
        assert {S.CANCELLED, S.FAILED} <= TRANSITIONS[status]


def test_a_run_that_lost_its_worker_goes_back_to_the_queue() -> None:
    assert apply_change(job(S.RUNNING), JobChange(status=S.QUEUED)).status is S.QUEUED


def test_a_waiting_or_working_job_can_be_paused_and_then_waits_again() -> None:
    for status in (S.QUEUED, S.RUNNING):
        assert apply_change(job(status), JobChange(status=S.PAUSED)).status is S.PAUSED
    assert apply_change(job(S.PAUSED), JobChange(status=S.QUEUED)).status is S.QUEUED
    assert S.PAUSED not in TRANSITIONS[S.VALIDATING_FILES]
    assert S.RUNNING not in TRANSITIONS[S.PAUSED]


@given(here=st.sampled_from(JobStatus), there=st.sampled_from(JobStatus))
def test_a_status_that_the_table_does_not_allow_is_refused(here: S, there: S) -> None:
    if there in TRANSITIONS[here]:
        assert apply_change(job(here), JobChange(status=there)).status is there
    else:
        with pytest.raises(ConflictError):
            apply_change(job(here), JobChange(status=there))


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_ended_job_gives_up_its_submission_and_changes_in_nothing_else(status: S) -> None:
    held = job(status).model_copy(update={"submission_open": True})

    assert not apply_change(held, JobChange(submission_open=False)).submission_open
    with pytest.raises(ConflictError, match="has already"):
        apply_change(held, JobChange(trained_tokens=1))


def test_only_the_named_fields_change() -> None:
    before = job(S.RUNNING).model_copy(update={"attempt": 3, "crashes": 1})

    after = apply_change(before, JobChange(crashes=2))

    assert after == before.model_copy(update={"crashes": 2})

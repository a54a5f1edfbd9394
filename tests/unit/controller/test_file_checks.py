"""What a job's policies mean for the check of its files."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.controller import validate
from tunesmith.dataset.validation import validate as whole_check
from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.spec import JobRequest, Method, Policy, RankingSpec
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


@pytest.mark.parametrize(
    ("method", "row"),
    [
        (Method.PRETRAINING, {"text": "Once upon a time {}"}),
        (Method.REASONING, {"Question": "{}?", "Response": "Yes."}),
    ],
)
def test_texts_and_thoughts_are_files_of_their_own_methods(
    world: World, method: Method, row: dict[str, str]
) -> None:
    rows: list[object] = [{key: said.format(n) for key, said in row.items()} for n in range(12)]
    request = JobRequest(method=method)
    job = world.step_until(world.add_job(rows=rows, request=request), JobStatus.QUEUED)
    assert job.resolved is not None
    assert job.resolved.examples == 12

    failed = world.step_until(world.add_job(request=request), JobStatus.FAILED)

    assert failed.error is not None
    assert f"format 'alpaca', which the method '{method}' does not take" in failed.error.message


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_queries_with_passages_are_taken_from_ten_rows_on_and_frozen_into_the_spec(
    world: World, method: Method
) -> None:
    rows: list[object] = [
        {"query": f"q{number}", "pos": [f"p{number}"], "neg": [f"n{number}"]}
        for number in range(10)
    ]
    ranking = RankingSpec(group_size=2)
    request = JobRequest(method=method, ranking=ranking, lora=None)

    few = world.step_until(world.add_job(rows=rows[:9], request=request), JobStatus.FAILED)
    job = world.launched(world.add_job(rows=rows, request=request))

    assert few.error is not None
    assert few.error.code is FailureCode.INVALID_TRAINING_FILE
    assert "holds 9 examples, but at least 10 are needed" in few.error.message
    spec = world.run_of(job).read_spec()
    assert (spec.method, spec.ranking, spec.lora) == (method, ranking, None)


def test_a_job_is_told_once_what_is_dubious_in_its_files(world: World) -> None:
    secret = {"instruction": "Who?", "output": "me@real.org"}
    job = world.add_job(rows=[*good_rows(), good_rows()[0], secret])

    world.step_until(job, JobStatus.QUEUED)

    events = world.store.list_events(job.id, after=None, limit=10).items
    [warning] = [event.message for event in events if event.level is EventLevel.WARN]
    assert warning.startswith("Worth a look in 'alpaca.jsonl': 1 duplicate, 1 personal_data.")
    assert f"/v1/files/{job.training_file}/validate" in warning
    assert "real.org" not in warning


def test_a_job_is_told_what_its_validation_file_has_too(world: World) -> None:
    held_out = world.add_file(good_rows()[3:5], name="held_out.jsonl")
    job = world.add_job(validation_file=held_out)

    world.step_until(job, JobStatus.QUEUED)

    assert any("2 overlap" in message for message in world.messages(job))


def test_sound_files_raise_no_warning(world: World) -> None:
    job = world.add_job()

    world.step_until(job, JobStatus.QUEUED)

    events = world.store.list_events(job.id, after=None, limit=10).items
    assert {event.level for event in events} == {EventLevel.INFO}


def test_a_file_on_which_the_check_breaks_fails_its_job_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: object) -> None:
        raise KeyError

    with monkeypatch.context() as patched:
        patched.setattr(validate, "validate", breaks)
        failed = world.step_until(world.add_job(), JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.INTERNAL_ERROR
    assert "KeyError" in failed.error.message
    assert failed.id in caplog.text
    world.step_until(world.add_job(), JobStatus.QUEUED)


def test_a_check_that_met_a_fault_of_the_machine_is_begun_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, tries = whole_check, iter([OSError("No space left on device")])

    def fails_once(*given: Any) -> Any:
        for error in tries:
            raise error
        return checked(*given)

    monkeypatch.setattr(validate, "validate", fails_once)

    world.step_until(world.add_job(), JobStatus.QUEUED)

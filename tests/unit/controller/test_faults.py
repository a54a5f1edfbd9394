"""What goes wrong around one job harms no other, and nothing waits for ever."""

from __future__ import annotations

import io
import threading

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import SubmissionState
from tunesmith.domain.events import RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobStatus
from tunesmith.domain.liveness import BEAT, CONTROLLER
from tunesmith.domain.spec import JobRequest
from unit.controller.world import World, step_metrics


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.CANCELLED])
def test_a_run_directory_that_cannot_be_read_harms_no_other_job(
    world: World, status: JobStatus
) -> None:
    world.cluster.nodes = (empty_node("n", cpus=4.0),)
    broken = world.running(world.add_job(request=JobRequest(cpus=2)))
    world.artifacts.put(f"runs/{broken.id}/spec.json", b'{"job_id": ')
    world.write(broken, checkpoint=step_metrics(1))
    if status is JobStatus.CANCELLED:
        world.store.cancel_job(broken.id, now=1)

    other = world.running(world.add_job(request=JobRequest(cpus=2)))
    world.report_success(other)
    world.step_until(other, JobStatus.SUCCEEDED)

    if status is JobStatus.CANCELLED:
        assert world.cluster.stopped == [broken.submission_id]
        return
    failed = world.step_until(broken, JobStatus.FAILED)
    assert failed.error is not None
    assert f"'runs/{broken.id}' cannot be read" in failed.error.message


def test_a_broken_line_in_a_runs_events_is_mended_by_its_next_attempt(world: World) -> None:
    job = world.running(world.add_job())
    world.artifacts.append(f"runs/{job.id}/events", b'{"number": 1, "mess\xff\n')
    world.report_success(job)
    world.cluster.end(job.submission_id, SubmissionState.SUCCEEDED)
    again = world.running(job)
    assert again.attempt == 2

    world.run_of(job).mend_events()
    world.report_success(job)

    world.step_until(job, JobStatus.SUCCEEDED)


def test_a_run_that_found_the_disk_full_fails_at_once_and_says_so(world: World) -> None:
    job = world.running(world.add_job())
    words = "Job entrypoint command failed with exit code 28, last available logs: …"
    world.cluster.end(job.submission_id, SubmissionState.FAILED, message=words)

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.DISK_FULL
    assert failed.attempt == 1


def test_a_finished_run_without_its_table_fails_instead_of_hanging(world: World) -> None:
    job = world.running(world.add_job())
    world.write(job, outcome=RunOutcome(trained_tokens=1))

    failed = world.step_until(job, JobStatus.FAILED)

    assert failed.error is not None
    assert failed.error.code is FailureCode.INTERNAL_ERROR


def test_while_no_node_has_joined_jobs_wait(world: World) -> None:
    world.cluster.nodes = (empty_node("head", cpus=0.0),)
    jobs = [world.add_job(), world.add_job(request=JobRequest(cpus=8))]
    for job in jobs:
        world.step_until(job, JobStatus.QUEUED)
    for _ in range(3):
        world.controller.step()
    assert [world.job(job).status for job in jobs] == [JobStatus.QUEUED] * 2

    world.cluster.nodes += (empty_node("worker", cpus=8.0),)

    world.running(jobs[0])


def test_a_job_whose_node_is_lost_waits_for_another_like_it(world: World) -> None:
    world.cluster.nodes = (empty_node("big", cpus=8.0),)
    job = world.running(world.add_job(request=JobRequest(cpus=8)))
    world.cluster.nodes = (empty_node("small", cpus=2.0),)
    world.cluster.lose()
    for _ in range(3):
        world.controller.step()
    assert world.job(job).status is JobStatus.QUEUED

    world.cluster.nodes = (empty_node("big again", cpus=8.0),)

    assert world.running(job).attempt == 2


def test_the_check_of_a_cancelled_job_ends_and_makes_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()
    endless = EndlessRows(began)
    job = world.add_job()
    key = world.store.file(job.training_file).key
    usual = world.artifacts.open
    monkeypatch.setattr(world.artifacts, "open", lambda k: endless if k == key else usual(k))
    world.controller.step()
    assert began.wait(10)

    world.store.cancel_job(job.id, now=1)

    world.step_until(world.add_job(), JobStatus.QUEUED)


class EndlessRows(io.BytesIO):
    """A training file that never ends."""

    def __init__(self, began: threading.Event) -> None:
        super().__init__()
        self.began = began

    def read(self, size: int | None = -1) -> bytes:
        self.began.set()
        row = b'{"instruction": "a", "output": "b"}\n'
        return row * max(1, (size or 1) // len(row))


def test_the_controller_gives_signs_of_life_that_tell_of_the_cluster(world: World) -> None:
    world.controller.step()
    first = world.store.last_sign(CONTROLLER)
    assert first is not None
    assert (first.at, first.cluster_up) == (int(world.clock.now()), True)

    world.clock.advance(BEAT - 1)
    world.controller.step()
    assert world.store.last_sign(CONTROLLER) == first

    world.cluster.unavailable = True
    world.controller.step()
    changed = world.store.last_sign(CONTROLLER)
    assert changed is not None
    assert not changed.cluster_up

    world.clock.advance(BEAT)
    world.controller.step()
    assert world.store.last_sign(CONTROLLER) != changed

"""Whatever is killed, no job is lost, and each ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from openai.types.fine_tuning import FineTuningJob

from e2e.service import STEPS, Service, make_job, until


def until_step(service: Service, job: FineTuningJob, step: int) -> None:
    until(lambda: len(service.steps(job.id)) >= step, 120)


def adapter(service: Service, job: FineTuningJob) -> bytes:
    return (service.data / "output" / job.id / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> bytes:
    """The adapter of the same job, when nothing is killed."""
    job = service.wait(make_job(service).id)
    assert job.status == "succeeded", job.error
    assert service.steps(job.id) == list(range(1, STEPS + 1))
    return adapter(service, job)


def kill_training(service: Service, job: FineTuningJob) -> None:
    service.trainer(job.id).kill()


def kill_controller(service: Service, job: FineTuningJob) -> None:
    del job
    service.controller().kill()


def kill_api(service: Service, job: FineTuningJob) -> None:
    trainer = service.trainer(job.id)
    service.kill()
    service.start()
    assert trainer.is_running(), "the training process must outlive the API"


def kill_all(service: Service, job: FineTuningJob) -> None:
    service.kill_all(job.id)
    service.start()


def press_ctrl_c(service: Service, job: FineTuningJob) -> None:
    assert service.end() == 0
    assert service.ray_processes() == []
    assert service.trainers(job.id) == []
    service.start()


@pytest.mark.parametrize(
    ("blow", "attempts"),
    [
        pytest.param(kill_training, 2, id="training"),
        pytest.param(kill_controller, 1, id="controller"),
        pytest.param(kill_api, 1, id="api"),
        pytest.param(kill_all, 2, id="all"),
        pytest.param(press_ctrl_c, 2, id="ctrl-c"),
    ],
)
def test_the_job_ends_as_if_nothing_had_happened(
    own_service: Service,
    undisturbed: bytes,
    blow: Callable[[Service, FineTuningJob], None],
    attempts: int,
) -> None:
    service = own_service
    job = make_job(service)
    until_step(service, job, 40)

    blow(service, job)

    done = service.wait(job.id)
    assert done.status == "succeeded", done.error
    assert service.steps(job.id) == list(range(1, STEPS + 1))
    assert adapter(service, job) == undisturbed
    claimed = (service.data / "runs" / job.id / "attempt").read_text()
    assert int(claimed) == attempts


def test_services_with_folders_of_their_own_know_nothing_of_each_other(
    service: Service, own_service: Service
) -> None:
    assert service.url != own_service.url

    job = own_service.wait(make_job(own_service).id)

    assert job.status == "succeeded"
    assert job.id not in [each.id for each in service.client.fine_tuning.jobs.list(limit=100)]


def test_a_job_made_while_ray_still_starts_is_not_lost_when_the_api_is_killed(
    own_service: Service,
) -> None:
    service = own_service
    job = make_job(service)
    service.kill()
    service.start()

    assert service.wait(job.id).status == "succeeded"

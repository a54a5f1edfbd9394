"""A job that is paused in mid-run and resumed ends as one that never was."""

from __future__ import annotations

from e2e.service import Service, make_job, until

STEPS = 60


def losses(service: Service, job_id: str) -> dict[int, float]:
    events = service.client.fine_tuning.jobs.list_events(job_id, limit=100)
    told = [dict(event.data) for event in events if event.type == "metrics" and event.data]  # type: ignore[call-overload]
    series = {int(each["step"]): float(each["train_loss"]) for each in told}
    assert len(series) == len(told), "each step is told once"
    return series


def test_a_paused_and_resumed_job_has_the_loss_series_of_an_undisturbed_one(
    service: Service,
) -> None:
    jobs = service.client.fine_tuning.jobs
    job = make_job(service, epochs=2)
    until(lambda: len(service.steps(job.id)) >= 8, 120)

    paused = jobs.pause(job.id)
    until(lambda: not service.trainers(job.id), 10)

    assert str(paused.status) == "paused"
    before = service.steps(job.id)
    assert len(before) < STEPS
    assert str(jobs.retrieve(job.id).status) == "paused"
    assert jobs.resume(job.id).status == "queued"
    done = service.wait(job.id)
    undisturbed = service.wait(make_job(service, epochs=2).id)
    assert (done.status, undisturbed.status) == ("succeeded", "succeeded")
    assert losses(service, job.id) == losses(service, undisturbed.id)
    assert len(losses(service, job.id)) == STEPS
    output = service.data / "output"
    first, second = (
        (output / each / "adapter_model.safetensors").read_bytes()
        for each in (job.id, undisturbed.id)
    )
    assert first == second

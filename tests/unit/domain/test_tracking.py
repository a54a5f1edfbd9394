"""Which services are told of a job: those it asks for, and the operator's, each place once."""

from __future__ import annotations

from tunesmith.domain.spec import JobRequest
from tunesmith.domain.tracking import (
    NOT_TRACKED,
    MlflowIntegration,
    TensorboardIntegration,
    Tracking,
    WandbIntegration,
)

TENSORBOARD = TensorboardIntegration()
ALL = MlflowIntegration(experiment="all")


def test_what_the_operator_has_for_every_job_follows_what_the_job_asks_for() -> None:
    asked = (WandbIntegration(project="p"), TENSORBOARD)

    found = Tracking(of_every_job=(TENSORBOARD, ALL)).integrations(asked)

    assert found == (*asked, ALL)


def test_a_place_that_the_job_names_itself_is_told_once_under_the_jobs_own_name() -> None:
    own = ALL.model_copy(update={"name": "mine"})

    assert Tracking(of_every_job=(ALL,)).integrations((own,)) == (own,)


def test_each_run_at_mlflow_is_sent_to_the_operators_server() -> None:
    tracking = Tracking(of_every_job=(ALL,), mlflow_tracking_uri="http://mlflow:5000")
    other = MlflowIntegration(experiment="other", tracking_uri="http://elsewhere")

    found = tracking.integrations((other,))

    assert [each.model_dump()["tracking_uri"] for each in found] == ["http://mlflow:5000"] * 2
    assert [each.model_dump()["experiment"] for each in found] == ["other", "all"]


def test_where_nothing_is_settled_a_job_has_what_it_asks_for() -> None:
    assert NOT_TRACKED.integrations((TENSORBOARD,)) == (TENSORBOARD,)


def test_a_request_that_was_kept_before_there_were_several_kinds_is_one_of_wandb() -> None:
    kept = '{"integrations": [{"project": "p", "name": null, "entity": null, "tags": ["a"]}]}'

    request = JobRequest.model_validate_json(kept)

    assert request.integrations == (WandbIntegration(project="p", tags=("a",)),)
    assert JobRequest.model_validate_json(request.model_dump_json()) == request

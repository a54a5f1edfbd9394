"""A model that is shared: the other project may use it, and no more, for as long as it may."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from stores import add_job
from tunesmith.domain.errors import ConflictError, NotFoundError

Create = Callable[..., Any]


@pytest.fixture(params=["", ":ckpt-step-5"])
def shared(client: openai.OpenAI, world: Any, request: pytest.FixtureRequest) -> str:
    """Return the name of a tuned model, and of a checkpoint, of a base with a slash."""
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="org/tiny-llama", training_file=file.id)
    world.run(job.id)
    return f"{world.finish(job.id).fine_tuned_model}{request.param}"


def grant(client: openai.OpenAI, name: str, *projects: str) -> list[Any]:
    permissions = client.fine_tuning.checkpoints.permissions
    return permissions.create(name, project_ids=list(projects)).data


def ids(permissions: Iterable[Any]) -> list[str]:
    return [permission.id for permission in permissions]


def test_permissions_are_created_listed_and_deleted(client: openai.OpenAI, shared: str) -> None:
    permissions = client.fine_tuning.checkpoints.permissions
    one, two, three = grant(client, shared, "one", "two", "three")
    assert one.id.startswith("cp_")
    assert (one.object, one.project_id) == ("checkpoint.permission", "one")
    assert ids(permissions.list(shared, limit=2)) == [three.id, two.id, one.id]
    oldest_first = permissions.list(shared, order="ascending", limit=1)
    assert ids(oldest_first) == [one.id, two.id, three.id]
    [found] = permissions.list(shared, project_id="two")
    assert found.to_dict() == two.to_dict()
    gone = permissions.delete(one.id, fine_tuned_model_checkpoint=shared)
    assert (gone.id, gone.deleted, gone.object) == (one.id, True, "checkpoint.permission")
    assert ids(permissions.list(shared)) == [three.id, two.id]
    with pytest.raises(openai.NotFoundError, match=one.id):
        permissions.delete(one.id, fine_tuned_model_checkpoint=shared)


def test_a_permission_that_is_there_is_kept(client: openai.OpenAI, shared: str) -> None:
    [first] = grant(client, shared, "one")
    again, _ = grant(client, shared, "one", "two")
    assert again == first


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "project_ids"),
        ({"project_ids": []}, "project_ids"),
        ({"project_ids": ["a/b"]}, "project_ids.0"),
        ({"project_ids": ["a"], "scope": "all"}, "scope"),
    ],
)
def test_a_request_that_names_no_projects_is_refused(
    http: TestClient, shared: str, body: dict[str, Any], param: str
) -> None:
    answer = http.post(f"/v1/fine_tuning/checkpoints/{shared}/permissions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_an_unknown_model_is_not_shared(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        grant(client, "ft:a:b::c", "one")
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.fine_tuning.checkpoints.permissions.list("ft:a:b::c:ckpt-step-1")


def test_a_project_with_a_permission_may_use_the_model_until_it_ends(
    client: openai.OpenAI, world: Any, shared: str
) -> None:
    theirs = world.store.within("theirs")
    with pytest.raises(NotFoundError):
        theirs.tuned_model(shared)
    [permission] = grant(client, shared, "theirs")
    assert theirs.tuned_model(shared).name == shared
    assert theirs.startable_model(shared).base == "org/tiny-llama"
    assert theirs.list_tuned_models() == []
    for forbidden in (theirs.retire_model, theirs.delete_model):
        with pytest.raises(ConflictError, match="belongs to another project"):
            forbidden(shared)
    with pytest.raises(ConflictError, match="belongs to another project"):
        theirs.add_permissions(shared, ["more"])
    client.fine_tuning.checkpoints.permissions.delete(
        permission.id, fine_tuned_model_checkpoint=shared
    )
    with pytest.raises(NotFoundError):
        theirs.tuned_model(shared)


def test_a_job_of_another_project_keeps_the_model_and_is_not_named(
    client: openai.OpenAI, world: Any, shared: str
) -> None:
    grant(client, shared, "theirs")
    mine = world.store.list_jobs(after=None, limit=1).items[0]
    found = world.store.tuned_model(shared)
    point = {"name": shared, "base": found.base, "key": found.key}
    started = mine.model_validate(
        mine.model_dump()
        | {"id": "ftjob-secret", "start_from": point, "status": "queued", "model": shared}
        | {"training_file": "file-theirs"}
    )
    add_job(world.store.within("theirs"), started)
    with pytest.raises(openai.ConflictError, match="1 of other projects") as refused:
        client.models.delete(shared)
    assert "ftjob-secret" not in str(refused.value)


def test_a_deleted_model_is_shared_no_more(client: openai.OpenAI, world: Any, shared: str) -> None:
    grant(client, shared, "theirs")
    assert client.models.delete(shared).deleted
    with pytest.raises(NotFoundError):
        world.store.within("theirs").tuned_model(shared)


@pytest.mark.parametrize("path", ["run", "validate"])
def test_graders_are_refused_with_what_there_is_instead(http: TestClient, path: str) -> None:
    answer = http.post(f"/v1/fine_tuning/alpha/graders/{path}", json={"grader": {}})
    assert answer.status_code == 404
    assert "'supervised' and 'dpo'" in answer.json()["error"]["message"]

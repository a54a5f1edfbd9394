"""Each route, asked with a key of another project, an unknown key, and one that may not write.

The routes come from the app. A new one fails here until `CASES` says how it is asked for what
belongs to another project.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from tunesmith.api import webhooks
from tunesmith.api.access import METRICS, PUBLIC
from tunesmith.api.app import create_app
from tunesmith.artifacts.logs import LogFile
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.exports import ExportFile, ExportStatus
from tunesmith.domain.keys import Scope, new_key
from unit.api.test_verdicts import VERDICT

if TYPE_CHECKING:
    from unit.api.conftest import World

HIDDEN, NOTHING, OWN = "answers 404", "shows nothing of it", "makes something of one's own"

STREAM = {"headers": {"Accept": "text/event-stream"}}
JOBS = "POST /v1/fine_tuning/jobs"
FORM = {"files": {"file": ("train.jsonl", b"{}\n")}, "data": {"purpose": "fine-tune"}}
UPLOAD = {"filename": "a", "purpose": "fine-tune", "bytes": 3, "mime_type": "text/jsonl"}
SAMPLE = {"event_type": "fine_tuning.job.failed"}
HOOK = {
    "name": "ci",
    "url": "https://example.org/hook",
    "event_types": ["fine_tuning.job.succeeded"],
}
MODEL = "smollm2-135m-instruct"
SHARING = "/v1/fine_tuning/checkpoints/{model:path}/permissions"
NOBODYS = "/v1/fine_tuning/alpha/"
"""What the paths begin with that show nothing of any project."""


@dataclass(frozen=True)
class Case:
    """How a route is asked, and what comes of it where the things are another project's."""

    outcome: str
    request: Mapping[str, Any]

    def filled(self, things: Mapping[str, str]) -> dict[str, Any]:
        """Return the request with the ids of `things` in their places."""
        filled: dict[str, Any] = {**self.request}
        for key in ("json", "params"):
            if key in filled:
                filled[key] = json.loads(_fill(json.dumps(filled[key]), things))
        return filled


def hidden(**request: Any) -> Case:
    return Case(HIDDEN, request)


def nothing(**request: Any) -> Case:
    return Case(NOTHING, request)


def own(**request: Any) -> Case:
    return Case(OWN, request)


OPEA_JOB = hidden(json={"fine_tuning_job_id": "<job_id>"})

CASES = {
    "GET /v1/files": nothing(),
    "POST /v1/files": own(**FORM),
    "GET /v1/files/{file_id}": hidden(),
    "DELETE /v1/files/{file_id}": hidden(),
    "GET /v1/files/{file_id}/rows/{line}": hidden(params={"model": MODEL}),
    "GET /v1/files/{file_id}/content": hidden(),
    "POST /v1/files/{file_id}/validate": hidden(json={}),
    "POST /v1/files/{file_id}/repair": hidden(),
    "GET /v1/files/{file_id}/repair/diff": hidden(),
    "POST /v1/uploads": own(json=UPLOAD),
    "POST /v1/uploads/{upload_id}/parts": hidden(files={"data": b"abc"}),
    "POST /v1/uploads/{upload_id}/complete": hidden(json={"part_ids": ["<part_id>"]}),
    "POST /v1/uploads/{upload_id}/cancel": hidden(),
    "GET /v1/fine_tuning/jobs": nothing(),
    "POST /v1/fine_tuning/jobs": hidden(json={"model": MODEL, "training_file": "<file_id>"}),
    "GET /v1/fine_tuning/jobs/{job_id:job}": hidden(),
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": hidden(),
    "POST /v1/fine_tuning/jobs/{job_id}/pause": hidden(),
    "POST /v1/fine_tuning/jobs/{job_id}/resume": hidden(),
    "GET /v1/fine_tuning/jobs/{job_id}/events": hidden(),
    "GET /v1/fine_tuning/jobs/{job_id}/checkpoints": hidden(),
    "GET /v1/fine_tuning/jobs/{job_id}/logs": hidden(),
    "GET /v1/fine_tuning/jobs/{job_id}/verdict": hidden(),
    "GET /v1/fine_tuning/jobs/{job_id}/metrics": hidden(),
    "GET /v1/fine_tuning/jobs/{job_id}/receipt": hidden(),
    "GET /v1/fine_tuning/jobs/{job_id}/receipt/lines/{line}": hidden(),
    "POST /v1/fine_tuning/estimate": hidden(json={"model": MODEL, "training_file": "<file_id>"}),
    "GET /v1/fine_tuning/estimate/{estimate_id}": hidden(),
    "POST /v1/chat/completions": hidden(
        json={"model": "<model>", "messages": [{"role": "user", "content": "Is it?"}]}
    ),
    "POST /v1/completions": hidden(json={"model": "<model>", "prompt": "Is it?"}),
    "POST /v1/embeddings": hidden(json={"model": "<model>", "input": "Is it?"}),
    "POST /v1/rerank": hidden(json={"model": "<model>", "query": "Is it?", "documents": ["Yes."]}),
    "POST /v1/exports": hidden(json={"model": "<model>", "format": "merged"}),
    "GET /v1/exports": nothing(),
    "GET /v1/exports/{export_id}": hidden(),
    "POST /v1/exports/{export_id}/cancel": hidden(),
    "DELETE /v1/exports/{export_id}": hidden(),
    "GET /v1/exports/{export_id}/content": hidden(),
    "GET /v1/exports/{export_id}/content/{name:path}": hidden(),
    "POST /v1/fine_tuning/jobs/retrieve": OPEA_JOB,
    "POST /v1/fine_tuning/jobs/cancel": OPEA_JOB,
    "POST /v1/finetune/list_checkpoints": OPEA_JOB,
    f"GET {SHARING}": hidden(),
    f"POST {SHARING}": hidden(json={"project_ids": ["third"]}),
    f"DELETE {SHARING}/{{permission_id}}": hidden(),
    "GET /v1/webhook_event_types": own(),
    "GET /v1/webhook_endpoints": nothing(),
    "POST /v1/webhook_endpoints": own(json=HOOK),
    "GET /v1/webhook_endpoints/{endpoint_id}": hidden(),
    "POST /v1/webhook_endpoints/{endpoint_id}": hidden(json={"name": "taken"}),
    "DELETE /v1/webhook_endpoints/{endpoint_id}": hidden(),
    "POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret": hidden(json={}),
    "POST /v1/webhook_endpoints/{endpoint_id}/test": hidden(json=SAMPLE),
    "GET /v1/webhook_endpoints/{endpoint_id}/deliveries": hidden(),
    "POST /v1/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}/retry": hidden(),
    "GET /v1/models": nothing(),
    "GET /v1/models/{model:path}": hidden(),
    "DELETE /v1/models/{model:path}": hidden(),
}
"""Every route of the app but the public ones and the metrics, which no key opens. `<name>` stands
for an id of the other project."""


def _fill(text: str, things: Mapping[str, str]) -> str:
    for name, thing in things.items():
        for place in (f"<{name}>", f"{{{name}}}", f"{{{name}:path}}", f"{{{name}:job}}"):
            text = text.replace(place, thing)
    return text


@dataclass
class Projects:
    """The API with a key of each kind, and what the project `theirs` has."""

    http: TestClient
    keys: dict[str, str]
    things: dict[str, str]

    def ask(self, route: str, key: str, case: Case | None = None) -> Any:
        method, path = route.split(" ")
        request = (case or CASES[route]).filled(self.things)
        header = {"Authorization": f"Bearer {self.keys[key]}", **request.pop("headers", {})}
        return self.http.request(method, _fill(path, self.things), headers=header, **request)


@pytest.fixture
def projects(world: World, http: TestClient, monkeypatch: pytest.MonkeyPatch) -> Projects:
    # There is no controller to post a sample.
    monkeypatch.setattr(webhooks, "PATIENCE", 0.0)
    keys = {"unknown": new_key("ours", "x", scope=Scope.ADMIN, now=0, expires_at=None)[0]}
    for name, project, scope in (
        ("theirs", "theirs", Scope.ADMIN),
        ("ours", "ours", Scope.ADMIN),
        ("reader", "theirs", Scope.READ),
    ):
        keys[name], key = new_key(project, name, scope=scope, now=0, expires_at=None)
        world.store.add_key(key)
    return Projects(http, keys, _things(world, http, keys["theirs"]))


def _things(world: World, http: TestClient, key: str) -> dict[str, str]:
    """Make one of each kind in the project of `key`."""
    ask: Callable[..., Any] = http.post
    header = {"headers": {"Authorization": f"Bearer {key}"}}
    form = {**FORM, "files": {"file": ("theirs.jsonl", b"{}\n")}}
    file = ask("/v1/files", **form, **header).json()
    upload = ask("/v1/uploads", json=UPLOAD, **header).json()
    part = ask(f"/v1/uploads/{upload['id']}/parts", files={"data": b"abc"}, **header).json()
    hook = ask("/v1/webhook_endpoints", json=HOOK, **header).json()
    wanted = {"model": MODEL, "training_file": file["id"]}
    job = ask("/v1/fine_tuning/jobs", json=wanted, **header).json()
    estimate = ask("/v1/fine_tuning/estimate", json=wanted, **header).json()
    world.store = world.store.within("theirs")
    world.run(job["id"])
    world.put_receipt(job["id"], lines=[424_242])
    RunDirectory(world.artifacts, job["id"]).write_verdict(VERDICT)
    LogFile(world.artifacts, job["id"]).append(["a line of theirs"])
    done = world.finish(job["id"])
    shared = ask(
        _fill(SHARING, {"model": done.fine_tuned_model or ""}),
        json={"project_ids": ["third"]},
        **header,
    ).json()
    wanted = {"model": done.fine_tuned_model, "format": "merged"}
    export = ask("/v1/exports", json=wanted, **header).json()
    world.artifacts.put(f"exports/{export['id']}/files/model.safetensors", b"weights")
    seen = world.store.export(export["id"])
    made = ExportFile(name="model.safetensors", bytes=7, sha256="0")
    ended = {"status": ExportStatus.SUCCEEDED, "files": (made,)}
    world.store.change_export(seen, seen.model_copy(update=ended))
    [delivery] = world.store.list_deliveries(hook["id"], after=None, limit=5).items
    return {
        "file_id": file["id"],
        "estimate_id": estimate["id"],
        "upload_id": upload["id"],
        "export_id": export["id"],
        "name": "model.safetensors",
        "part_id": part["id"],
        "job_id": job["id"],
        "model": done.fine_tuned_model or "",
        "checkpoint": f"{done.fine_tuned_model}:ckpt-step-5",
        "permission_id": shared["data"][0]["id"],
        "endpoint_id": hook["id"],
        "delivery_id": delivery.id,
        "result_id": done.result_files[0],
        "line": "424242",
    }


def _routes(world: World) -> Iterator[str]:
    for route in iter_route_contexts(create_app(world.services).routes):
        path = route.path or ""
        if path not in PUBLIC | {METRICS} and route.methods and not path.startswith(NOBODYS):
            yield from (f"{method} {path}" for method in route.methods)


def test_every_route_has_its_case(world: World) -> None:
    assert set(_routes(world)) == set(CASES), "Add the route to CASES, or take it out."


@pytest.mark.parametrize("route", CASES)
def test_what_belongs_to_another_project_is_not_there(projects: Projects, route: str) -> None:
    answer = projects.ask(route, "ours")
    if CASES[route].outcome is HIDDEN:
        assert answer.status_code == 404
    else:
        assert answer.status_code == 200
        assert not [thing for thing in projects.things.values() if thing in answer.text]
    kept = projects.ask("GET /v1/files/{file_id}", "theirs")
    assert kept.status_code == 200


@pytest.mark.parametrize(
    ("route", "request_", "status"),
    [
        ("GET /v1/files/<result_id>/content", {}, 404),
        ("GET /v1/models/<checkpoint>", {}, 404),
        ("GET /v1/fine_tuning/jobs/<job_id>/events", STREAM, 404),
        ("GET /v1/fine_tuning/jobs/<job_id>/logs", {"params": {"follow": "true"}}, 404),
        ("GET /v1/files", {"params": {"after": "<file_id>"}}, 400),
        ("GET /v1/fine_tuning/jobs", {"params": {"after": "<job_id>"}}, 400),
        (JOBS, {"json": {"model": "<model>", "training_file": "<our_file>"}}, 404),
        (JOBS, {"json": {"model": "<checkpoint>", "training_file": "<our_file>"}}, 404),
        (JOBS, {"json": {"model": MODEL, "training_file": "theirs.jsonl"}}, 404),
        (
            JOBS,
            {
                "json": {
                    "model": MODEL,
                    "training_file": "<our_file>",
                    "validation_file": "<file_id>",
                }
            },
            404,
        ),
    ],
)
def test_no_other_way_leads_to_it(
    projects: Projects, route: str, request_: Mapping[str, Any], status: int
) -> None:
    ours = projects.ask("POST /v1/files", "ours").json()
    projects.things["our_file"] = ours["id"]
    answer = projects.ask(route, "ours", Case(HIDDEN, request_))
    assert answer.status_code == status, answer.text
    if route.startswith("GET "):
        assert projects.ask(route, "theirs", Case(HIDDEN, request_)).status_code == 200


@pytest.mark.parametrize("route", CASES)
def test_the_project_itself_finds_it(projects: Projects, route: str) -> None:
    answer = projects.ask(route, "theirs")
    assert answer.status_code in (200, 400)
    if CASES[route].outcome is NOTHING:
        assert [thing for thing in projects.things.values() if thing in answer.text]


def test_an_unknown_key_is_refused_everywhere(projects: Projects) -> None:
    answers = {route: projects.ask(route, "unknown") for route in CASES}
    assert {route: answer.status_code for route, answer in answers.items()} == dict.fromkeys(
        CASES, 401
    )
    told = "".join(answer.text for answer in answers.values())
    assert not [thing for thing in projects.things.values() if thing in told]


def test_a_key_that_may_only_read_reads_everything_and_changes_nothing(projects: Projects) -> None:
    found = {route: projects.ask(route, "reader").status_code for route in CASES}
    reads = {route for route in CASES if route.startswith("GET ")} - {f"GET {SHARING}"}
    # OPEA's clients ask by POST, and a file is checked by one.
    reads |= {
        "POST /v1/files/{file_id}/validate",
        "POST /v1/fine_tuning/jobs/retrieve",
        "POST /v1/finetune/list_checkpoints",
    }
    # Asking a model changes nothing; to one that makes texts, no vectors are asked.
    asked = {"/chat/completions": 200, "/completions": 200, "/embeddings": 400, "/rerank": 400}
    asks = {f"POST /v1{path}": status for path, status in asked.items()}
    # It is read, and the base model's tokenizer is not at hand.
    asks["GET /v1/files/{file_id}/rows/{line}"] = 400
    assert found == {route: 200 if route in reads else 403 for route in CASES} | asks
    # Whatever was refused has left each thing in its place.
    again = {route: projects.ask(route, "reader").status_code for route in CASES}
    assert again == found


def test_no_projects_key_opens_the_metrics(projects: Projects) -> None:
    for key in projects.keys:
        answer = projects.ask(f"GET {METRICS}", key, own())
        assert answer.status_code == 401
        assert not [thing for thing in projects.things.values() if thing in answer.text]


def test_the_public_routes_answer_without_a_key(projects: Projects) -> None:
    for path in ("/health", "/v1/health_check", "/v1/statistics", "/openapi.json", "/docs"):
        assert projects.http.get(path).status_code == 200

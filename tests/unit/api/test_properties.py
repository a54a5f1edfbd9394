"""Whatever is asked within our own description is answered as it says, and never by a fault."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case, HookContext
from schemathesis.config import SchemathesisConfig
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.domain.liveness import CONTROLLER, SignOfLife
from unit.api.conftest import BASE, World

# What no schema can say: which rows a list has, and which keys contradict each other.
UNSAID = (
    "GET /v1/.*",
    "POST /v1/fine_tuning/(jobs|estimate)",
    "POST /v1/chat/completions",
    "POST /v1/exports",
)
TAKEN = ["2xx", "401", "403", "404", "409", "429"]
CONFIG = {
    "checks": {"positive_data_acceptance": {"expected-statuses": TAKEN}},
    "operations": [
        {
            # A label that is null or the string "null" look alike in a query.
            "include-name": "GET /v1/fine_tuning/jobs",
            "checks": {"negative_data_rejection": {"expected-statuses": ["2xx", "400"]}},
        },
        *(
            {
                "include-name-regex": name,
                "checks": {"positive_data_acceptance": {"expected-statuses": [*TAKEN, "400"]}},
            }
            for name in UNSAID
        ),
    ],
}

world = World()
app = create_app(world.services)
schema = schemathesis.openapi.from_asgi(
    "/openapi.json", app, config=SchemathesisConfig.from_dict(CONFIG)
)


def _fill() -> dict[str, str]:
    """Give the world something of each kind, and return the ids."""
    http = TestClient(app)
    now = int(world.clock.now())
    world.store.give_sign(SignOfLife(process=CONTROLLER, at=now, cluster_up=True))
    file = {"file": ("a.jsonl", b"{}\n")}
    file_id = http.post("/v1/files", files=file, data={"purpose": "fine-tune"}).json()["id"]
    shape = {"filename": "b", "purpose": "batch", "bytes": 9, "mime_type": "text/plain"}
    upload_id = http.post("/v1/uploads", json=shape).json()["id"]
    asked = {"model": BASE, "training_file": file_id}
    job_id = http.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
    world.run(job_id)
    model = world.finish(job_id).fine_tuned_model
    return {"file_id": file_id, "upload_id": upload_id, "job_id": job_id, "model": str(model)}


IDS = _fill()


@schema.hook
def map_path_parameters(context: HookContext, path_parameters: dict[str, Any] | None) -> Any:
    """Look at what there is in every second case; nothing is changed, so that it stays so."""
    if context.operation is None or context.operation.method.upper() != "GET":
        return path_parameters
    for name, value in (path_parameters or {}).items():
        if name in IDS and len(str(value)) % 2:
            path_parameters = {**(path_parameters or {}), name: IDS[name]}
    return path_parameters


@schema.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_each_route_keeps_its_description(case: Case[Any]) -> None:
    case.call_and_validate()

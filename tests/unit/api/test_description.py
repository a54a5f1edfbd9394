"""The API's own description: it is complete, and served as a page that needs nobody else."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest
from starlette.testclient import TestClient

from tunesmith.api.examples import REQUESTS
from tunesmith.protocol.errors import ErrorBody, OpeaErrorBody
from tunesmith.protocol.jobs import CreateJob
from tunesmith.protocol.reading import read_shape


@pytest.fixture
def description(http: TestClient) -> dict[str, Any]:
    answer = http.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(description: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [
        (f"{method} {path}", operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    assert found
    return found


def test_each_route_says_what_it_does_takes_and_answers(description: dict[str, Any]) -> None:
    groups = {tag["name"] for tag in description["tags"]}
    for name, operation in operations(description):
        assert operation["description"], name
        assert set(operation["tags"]) <= groups, name
        # OPEA's own liveness check has an empty body.
        assert ("content" in operation["responses"]["200"]) == (name != "get /health"), name
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (name, parameter)


def test_each_json_body_has_examples_that_its_shape_takes(description: dict[str, Any]) -> None:
    """Read as a request would be; a shape without any example would fail as well."""
    bodies = [
        (name, media)
        for name, operation in operations(description)
        for kind, media in operation.get("requestBody", {}).get("content", {}).items()
        if kind == "application/json"
    ]
    assert bodies
    for name, media in bodies:
        taken = {ref["$ref"].rpartition("/")[2] for ref in media["schema"]["anyOf"]}
        shapes = [shape for shape in REQUESTS if shape.__name__ in taken]
        assert {shape.__name__ for shape in shapes} == taken, name
        values = [example["value"] for example in media["examples"].values()]
        assert values == [each for shape in shapes for each in REQUESTS[shape].values()], name
        for shape in shapes:
            assert REQUESTS[shape], name
            for value in REQUESTS[shape].values():
                read_shape(shape, value)


def test_each_json_answer_has_an_example_that_its_schema_takes(
    description: dict[str, Any],
) -> None:
    for name, operation in operations(description):
        media = operation["responses"]["200"].get("content", {}).get("application/json")
        # A receipt as a whole is shown in its own page.
        if media is None or name == "get /v1/fine_tuning/jobs/{job_id}/receipt":
            continue
        named = media.get("examples") or {"": {"value": media["example"]}}
        schema = {**media["schema"], "components": description["components"]}
        for example in named.values():
            jsonschema_rs.validate(schema, example["value"])


@pytest.mark.parametrize("body", REQUESTS[CreateJob].values(), ids=REQUESTS[CreateJob])
def test_the_examples_of_a_job_make_sense_as_a_whole(body: dict[str, Any]) -> None:
    read_shape(CreateJob, body).to_request()


def test_each_route_has_a_name_of_its_own(description: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(description)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


def test_each_field_of_each_shape_is_described(description: dict[str, Any]) -> None:
    for name, shape in description["components"]["schemas"].items():
        assert shape["description"], name
        for field, schema in shape.get("properties", {}).items():
            assert schema.get("description") or "$ref" in schema, (name, field)


def test_each_route_shows_its_errors_in_the_shape_that_they_have(
    description: dict[str, Any],
) -> None:
    for name, operation in operations(description):
        shape = OpeaErrorBody if "opea" in operation["tags"] else ErrorBody
        refusals = [status for status in operation["responses"] if status >= "400"]
        assert {"400", "500"} <= set(refusals), name
        for status in refusals:
            if (name, status) == ("get /ready", "503"):
                continue
            content = operation["responses"][status]["content"]["application/json"]
            assert content["schema"]["$ref"].endswith(f"/{shape.__name__}"), (name, status)
            shape.model_validate(content["example"])


def test_what_asks_for_a_key_says_so(description: dict[str, Any]) -> None:
    assert description["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for name, operation in operations(description):
        health = "health" in operation["tags"]
        assert ({"key": []} in operation["security"]) is not health, name
        assert ("401" in operation["responses"]) is not health, name


def test_the_page_shows_the_description_and_loads_nothing_from_elsewhere(
    http: TestClient,
) -> None:
    page = http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(parts) >= 2
    for part in parts:
        assert part.startswith("/")
        assert http.get(part).status_code == 200, part
    assert "http://" not in page.text
    assert "https://" not in page.text

"""The description of the API, `/openapi.json`, with the bodies that handlers read themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from tunesmith.api.description import INTRODUCTION, SECURITY, TAGS, describe_route
from tunesmith.api.examples import REQUESTS, answer_examples, request_examples
from tunesmith.domain.files import MAX_FILE_LIFE, MIN_FILE_LIFE, UPLOADABLE
from tunesmith.protocol.wire import Wire

_REF = "#/components/schemas/{model}"

UPLOAD_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(UPLOADABLE)},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": MIN_FILE_LIFE,
                            "maximum": MAX_FILE_LIFE,
                        },
                    },
                    "additionalProperties": False,
                    "dependentRequired": {
                        "expires_after[anchor]": ["expires_after[seconds]"],
                        "expires_after[seconds]": ["expires_after[anchor]"],
                    },
                }
            }
        },
    }
}
"""Describes the form of an upload, for a route's `openapi_extra`."""


PART_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "additionalProperties": False,
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
"""Describes the form of an upload's part, for a route's `openapi_extra`."""


BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes as they were uploaded or made.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""Describes an answer of plain bytes, for a route's `responses`."""


DIFF: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The unified diff, without context; empty where nothing is mended.",
        "content": {"text/x-diff": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""Describes an answer of a diff, for a route's `responses`."""


def json_body(*shapes: type[Wire], required: bool = True) -> dict[str, Any]:
    """Return the description of a JSON body in one of `shapes`, for a route's `openapi_extra`."""
    schemas = [{"$ref": _REF.format(model=shape.__name__)} for shape in shapes]
    examples = {key: shown for shape in shapes for key, shown in request_examples(shape).items()}
    content = {"application/json": {"schema": {"anyOf": schemas}, "examples": examples}}
    return {"requestBody": {"required": required, "content": content}}


def operation_id(route: APIRoute) -> str:
    """Return the name of a route, by which generated clients call it."""
    return f"opea_{route.name}" if "opea" in route.tags else route.name


def describe_api(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description of `app`."""
    description = get_openapi(
        title=app.title,
        version=app.version,
        description=INTRODUCTION,
        tags=TAGS,
        routes=app.routes,
    )
    _, shapes = models_json_schema([(shape, "validation") for shape in REQUESTS], ref_template=_REF)
    components = description["components"]
    components["schemas"].update(shapes["$defs"])
    components["securitySchemes"] = SECURITY
    answers = answer_examples()
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            public = "health" in operation["tags"]
            describe_route(operation, path=path, method=method, public=public)
            for media in operation["responses"]["200"].get("content", {}).values():
                media.update(_shown(media["schema"], answers))
    return description


def _shown(schema: Mapping[str, Any], answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer's examples by its `schema`; `answers` has one of each shape."""
    if "anyOf" in schema:
        names = [_name(choice) for choice in schema["anyOf"]]
        return {"examples": {name: {"value": answers[name]} for name in names}}
    if "items" in schema:
        return {"example": [answers[_name(schema["items"])]]}
    return {"example": answers[_name(schema)]} if "$ref" in schema else {}


def _name(schema: Mapping[str, str]) -> str:
    return schema["$ref"].rpartition("/")[2]

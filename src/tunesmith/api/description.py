"""What the OpenAPI description says of every route alike: parameters, errors, keys, headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith.api.codes import TOO_LARGE, WRONG_CONTENT_TYPE
from tunesmith.protocol.errors import ErrorBody, ErrorDetail, OpeaErrorBody

INTRODUCTION = """\
A self-hosted fine-tuning service. It speaks OpenAI's fine-tuning, files, uploads and models APIs,
so that their clients need only another `base_url`, and OPEA's InstructionTuning API beside them.

Lists are paged by cursor: ask for the rows behind the last id that you have, as `after`, until
`has_more` is false. Every answer carries its own id in the header `X-Request-Id`; the service's log
names it too.
"""
"""The description of the API as a whole, in Markdown."""

TAGS = [
    {"name": "fine-tuning", "description": "Jobs, their events, checkpoints, receipts and logs."},
    {"name": "files", "description": "Training files, results, and what is wrong with a file."},
    {"name": "uploads", "description": "Files that come in parts, in any order and in parallel."},
    {"name": "models", "description": "Base models, tuned models and checkpoints."},
    {"name": "answers", "description": "What models say: chats and texts, whole or streamed."},
    {"name": "webhooks", "description": "Who is told of a job's end, and what became of it."},
    {"name": "opea", "description": "OPEA's own routes, beside those that both dialects share."},
    {"name": "health", "description": "Whether the service is alive and ready."},
]
"""The groups of routes."""

SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, made by `tunesmith keys create`. A service on loopback "
        "without any key asks for none.",
    }
}
"""How a request says whose it is."""

_PARAMETERS = {
    "after": "Id of the last row that you have; the page begins behind it.",
    "limit": "Most rows of the page.",
    "points": "Most points of the curves.",
    "order": "By the time of creation: oldest (`asc`) or newest (`desc`) first.",
    "purpose": "Only files with this purpose.",
    "job_id": "A job's id, such as `ftjob-…`.",
    "estimate_id": "An estimate's id, `ftestimate-…`.",
    "export_id": "An export's id, `exp_…`.",
    "name": "A file's path in the export, such as `model.safetensors`.",
    "file_id": "A file's id, `file-…`.",
    "permission_id": "A permission's id, `cp_…`.",
    "project_id": "Only the permission of this project.",
    "upload_id": "An upload's id, `upload_…`.",
    "format": "JSON as a whole, or a download of all lines as JSON lines or Parquet.",
    "line": "Line of the file, from 1.",
    "file": "Whose line it is: the training file's or the validation file's.",
    "element": "Number of the example, from 1, where one line holds a whole array.",
    "endpoint_id": "A webhook endpoint's id.",
    "delivery_id": "A delivery's id.",
    "model": "A model's name: a base model's, a tuned model's or a checkpoint's.",
}
"""What parameters of these names mean wherever they stand."""


def _fault(message: str, *, param: str | None = None, code: str | None = None) -> ErrorDetail:
    return ErrorDetail(type="invalid_request_error", message=message, param=param, code=code)


_ERRORS = {
    400: (
        "The request cannot be understood or done as it stands; the message names the place.",
        _fault(
            "'method.supervised.hyperparameters.n_epochs' must be \"auto\" or an integer from "
            "1 to 50; found 0.",
            param="method.supervised.hyperparameters.n_epochs",
        ),
    ),
    401: (
        "The service asks for an API key, and the request has no usable one.",
        _fault("Incorrect API key provided.", code="invalid_api_key"),
    ),
    403: (
        "The key's scopes do not reach so far, or nobody may do it.",
        _fault("This needs a key with the scope 'write'.", code="insufficient_scope"),
    ),
    404: (
        "There is no such thing in the key's project.",
        _fault("No such File object: file-abc", param="file_id"),
    ),
    409: (
        "The state of things does not allow it.",
        _fault(
            "File 'file-abc' is needed by unfinished fine-tuning jobs: ftjob-abc. Cancel them or "
            "wait until they have ended.",
            param="file_id",
            code="file_in_use",
        ),
    ),
    413: (
        "The body is larger than what is taken.",
        _fault("The body is larger than the 1048576 bytes that are taken.", code=TOO_LARGE),
    ),
    415: (
        "The body is of a content type that is not taken.",
        _fault(
            "The body's content type is 'text/plain'; send JSON with 'Content-Type: "
            "application/json'.",
            code=WRONG_CONTENT_TYPE,
        ),
    ),
    422: (
        "The body cannot be understood; this is OPEA's status for it.",
        _fault("'fine_tuning_job_id' is missing; it is required.", param="fine_tuning_job_id"),
    ),
    429: (
        "A limit of the project is reached; `Retry-After` says when to try again.",
        _fault("The project makes more requests than it may.", code="rate_limit_exceeded"),
    ),
    500: (
        "A fault of the service, told in its log.",
        ErrorDetail(type="server_error", message="The service has a fault.", param=None, code=None),
    ),
    503: (
        "The models are being started, or all are busy; `Retry-After` says when to try again.",
        ErrorDetail(
            type="server_error",
            message="The models are still being started. Ask again later.",
            param=None,
            code="models_starting",
        ),
    ),
    507: (
        "The service's disk is full, or has less room than is kept free; nothing is lost.",
        ErrorDetail(
            type="server_error",
            message="The service's disk is full, so nothing was written.",
            param=None,
            code="disk_full",
        ),
    ),
}


def describe_route(operation: dict[str, Any], *, path: str, method: str, public: bool) -> None:
    """Add to the description of a route what it has in common with the others.

    `public` means that it asks for no key.
    """
    for parameter in operation.get("parameters", ()):
        known = _PARAMETERS.get(parameter["name"])
        if known:
            parameter.setdefault("description", known)
        if parameter["name"] == "metadata":
            parameter.update(style="deepObject", explode=True, schema=_LABELS)
    responses = operation["responses"]
    responses.pop("default", None)
    for status in _statuses(operation, path=path, method=method, public=public):
        responses.setdefault(str(status), _response(status, opea="opea" in operation["tags"]))
    for status, response in responses.items():
        response.setdefault("headers", {}).update(_headers(int(status)))
    operation["security"] = [] if public else [{"key": []}, {}]


_LABELS = {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 16}


def _statuses(operation: dict[str, Any], *, path: str, method: str, public: bool) -> Iterator[int]:
    """Yield the statuses of the errors that a route may answer."""
    yield from (400, 500)
    if public:
        return
    yield from (401, 403, 429)
    if "{" in path or method == "post":
        yield 404
    if method in ("post", "delete"):
        yield from (409, 507)
    if "requestBody" in operation:
        yield from (413, 415)
    if "answers" in operation["tags"]:
        yield 503
    if "opea" in operation["tags"]:
        yield 422


def _response(status: int, *, opea: bool) -> dict[str, Any]:
    title, detail = _ERRORS[status]
    shape: type[ErrorBody | OpeaErrorBody] = ErrorBody
    example: ErrorBody | OpeaErrorBody = ErrorBody(error=detail)
    if opea:
        shape, example = OpeaErrorBody, OpeaErrorBody(detail=detail.message)
    schema = {"$ref": f"#/components/schemas/{shape.__name__}"}
    content = {"application/json": {"schema": schema, "example": example.model_dump()}}
    return {"description": title, "content": content}


def _headers(status: int) -> dict[str, Any]:
    headers = {
        "X-Request-Id": {
            "description": "The request's own id, which the service's log names.",
            "schema": {"type": "string"},
        }
    }
    if status in (429, 503):
        headers["Retry-After"] = {
            "description": "Seconds after which to try again.",
            "schema": {"type": "integer", "minimum": 0},
        }
    return headers

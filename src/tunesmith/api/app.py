"""Compose the API, and map each error to its HTTP status and its dialect's body."""

from __future__ import annotations

import logging
import threading
from functools import cache, partial
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Match

from tunesmith.api import (
    chat,
    completions,
    estimates,
    exports,
    files,
    graders,
    health,
    jobs,
    logs,
    metrics,
    models,
    opea,
    permissions,
    ranking,
    receipts,
    repair,
    rows,
    uploads,
    validation,
    verdicts,
    webhooks,
)
from tunesmith.api.access import Doorkeeper, authorize
from tunesmith.api.codes import FORBIDDEN, FOREIGN_ORIGIN, TOO_LARGE, WRONG_CONTENT_TYPE
from tunesmith.api.lingering import Lingering
from tunesmith.api.metrics import Counted, service_figures
from tunesmith.api.openapi import describe_api, operation_id
from tunesmith.api.query import check_query
from tunesmith.api.request_id import HEADER, RequestIds
from tunesmith.api.services import Services
from tunesmith.api.streams import EventStreams
from tunesmith.api.traced import Traced
from tunesmith.domain.errors import (
    ArtifactsUnavailableError,
    BusyError,
    ConflictError,
    DiskFullError,
    InsufficientScopeError,
    InvalidRequestError,
    LimitError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    SystemFaultError,
    UnknownKeyError,
    UserError,
)
from tunesmith.domain.ids import Dialect
from tunesmith.domain.log_context import masked
from tunesmith.protocol.errors import (
    ErrorBody,
    ErrorDetail,
    ErrorType,
    OpeaErrorBody,
)
from tunesmith.protocol.reading import complaint, shortened

_log = logging.getLogger(__name__)

_AWAY = 10
"""Seconds after which an object store that was away may be back."""

_STATUS_OF_CODE = {
    TOO_LARGE: 413,
    WRONG_CONTENT_TYPE: 415,
    FORBIDDEN: 403,
    FOREIGN_ORIGIN: 403,
    "model_not_yours": 403,
    # Upon a 409 OpenAI's clients would send the request again, in vain.
    "idempotency_key_reused": 422,
    # OpenAI answers 400 to the cancellation of a job that has ended.
    "job_already_ended": 400,
    # OpenAI's clients would send the request again upon a 409.
    "job_not_pausable": 400,
    "job_not_paused": 400,
    "upload_not_pending": 400,
    "export_ended": 400,
}
"""Statuses of the errors whose kind alone does not decide it."""

_STATUS_OF_KIND: tuple[tuple[type[UserError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (InvalidRequestError, 400),
    (UnknownKeyError, 401),
    (InsufficientScopeError, 403),
    (LimitError, 429),
)
"""Statuses of the other errors of the caller; OPEA's own routes answer 422 for the last."""

_ERROR_OPENAI: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorBody, "description": "The error, in OpenAI's shape"}
}
_ERROR_OPEA: dict[int | str, dict[str, Any]] = {
    "default": {"model": OpeaErrorBody, "description": "The error, in OPEA's shape"}
}


def create_app(services: Services) -> FastAPI:
    """Return the API over `services`."""
    app = FastAPIOffline(
        title="Tunesmith",
        version=services.version,
        redoc_url=None,
        # The page asks nobody else: not for its parts, and not whether the description is valid.
        swagger_ui_parameters={"validatorUrl": None, "docExpansion": "list"},
        generate_unique_id_function=operation_id,
        middleware=[
            Middleware(Counted),
            Middleware(Lingering),
            Middleware(RequestIds),
            Middleware(Traced),
        ],
        dependencies=[Depends(authorize), Depends(check_query)],
    )
    app.state.services = services
    app.state.doorkeeper = Doorkeeper(
        services.store,
        services.clock,
        open_without_keys=services.open_without_keys,
        names=services.own_names,
        defaults=services.limits,
        metrics_token=services.metrics_token,
    )
    app.state.figures = service_figures(services.store, services.clock)
    app.state.draining = threading.Event()
    app.state.streams = EventStreams(services.store)
    # Routes are tried in their order, so that those which are asked most come first.
    app.include_router(jobs.router, responses=_ERROR_OPENAI)
    app.include_router(opea.router, responses=_ERROR_OPEA)
    for resource in (
        files,
        validation,
        repair,
        rows,
        uploads,
        receipts,
        verdicts,
        logs,
        estimates,
        exports,
        permissions,
        graders,
        models,
        chat,
        completions,
        ranking,
        webhooks,
        health,
        metrics,
    ):
        app.include_router(resource.router, responses=_ERROR_OPENAI)
    app.add_exception_handler(UserError, _answer_user_error)
    app.add_exception_handler(RequestValidationError, _answer_bad_parameter)
    app.add_exception_handler(HTTPException, _answer_no_route)
    app.add_exception_handler(DiskFullError, _answer_full_disk)
    app.add_exception_handler(ArtifactsUnavailableError, _answer_unavailable)
    app.add_exception_handler(BusyError, _answer_busy)
    app.add_exception_handler(SystemFaultError, _answer_fault)
    app.add_exception_handler(Exception, _answer_fault)
    # It takes half a second to make, and whoever asks for it needs no key.
    app.openapi = cache(partial(describe_api, app))  # type: ignore[method-assign]
    return app


async def _answer_user_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)  # noqa: S101
    return _answer(request, error, status=_status(request, error))


async def _answer_bad_parameter(request: Request, error: Exception) -> JSONResponse:
    """Answer a query parameter that FastAPI itself found wrong."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return await _answer_user_error(request, complaint(error.errors()[0], skip=1))


async def _answer_no_route(request: Request, error: Exception) -> JSONResponse:
    """Answer an unknown path or a method that the path does not take."""
    assert isinstance(error, HTTPException)  # noqa: S101
    path = shortened(request.url.path)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The framework names the methods of the first route of that path alone.
        headers["Allow"] = allowed = ", ".join(_methods(request))
        message = f"{path} does not take {request.method}; it takes {allowed}."
        fault = UserError(message, code="method_not_allowed")
    else:
        message = f"There is no {request.method} {path}; '/openapi.json' lists what there is."
        fault = UserError(message, code="unknown_url")
    answer = _answer(request, fault, status=error.status_code)
    answer.headers.update(headers)
    return answer


def _methods(request: Request) -> list[str]:
    """Return the methods that the path of `request` takes."""
    routes = request.app.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    ]


async def _answer_full_disk(request: Request, error: Exception) -> JSONResponse:
    """Answer a write that found no room."""
    assert isinstance(error, DiskFullError)  # noqa: S101
    _log.error("%s %s: %s", request.method, request.url.path, error.message)
    message = f"{error.message} Its operator must free some space; then send the request again."
    detail = ErrorDetail(message=message, type="server_error", param=None, code="disk_full")
    # OpenAI's clients send a request again upon a 507 by themselves, unless this is said.
    headers = {"x-should-retry": "false"}
    return JSONResponse(_body(request, detail), status_code=507, headers=headers)


async def _answer_unavailable(request: Request, error: Exception) -> JSONResponse:
    """Answer that the object store is away; what is wrong with it goes to the log."""
    assert isinstance(error, ArtifactsUnavailableError)  # noqa: S101
    _log.error("%s %s: %s", request.method, request.url.path, error.message)
    message = (
        "The store that keeps files and results does not answer. Send the request again later; "
        "the service's log tells its operator what is wrong."
    )
    detail = ErrorDetail(
        message=message, type="server_error", param=None, code="artifacts_unavailable"
    )
    headers = {"Retry-After": str(_AWAY)}
    return JSONResponse(_body(request, detail), status_code=503, headers=headers)


async def _answer_busy(request: Request, error: Exception) -> JSONResponse:
    """Answer that there is no room now, and when to ask again."""
    assert isinstance(error, BusyError)  # noqa: S101
    detail = ErrorDetail(message=error.message, type="server_error", param=None, code=error.code)
    headers = {"Retry-After": str(error.retry_after)}
    return JSONResponse(_body(request, detail), status_code=503, headers=headers)


async def _answer_fault(request: Request, error: Exception) -> JSONResponse:
    """Answer a fault of the service, without its details, which go to the log."""
    request_id: str = request.state.request_id
    _log.error("%s %s (%s) failed", request.method, request.url.path, request_id, exc_info=error)
    message = f"The service failed; its log tells why under the request id '{request_id}'."
    answer = _body(
        request, ErrorDetail(message=message, type="server_error", param=None, code=None)
    )
    # An error of no known kind is answered outside of the middleware that adds the id.
    headers = {HEADER: request_id}
    return JSONResponse(answer, status_code=500, headers=headers)


def _status(request: Request, error: UserError) -> int:
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    status = next(status for kind, status in _STATUS_OF_KIND if isinstance(error, kind))
    return 422 if status == 400 and request.url.path in opea.PATHS else status


def _answer(request: Request, error: UserError, *, status: int) -> JSONResponse:
    # A message may repeat what was sent, and a key that was sent in the wrong place stays secret.
    detail = ErrorDetail(
        message=masked(error.message),
        type=_type(error),
        param=masked(error.param) if error.param else error.param,
        code=error.code,
    )
    return JSONResponse(_body(request, detail), status_code=status, headers=_headers(error))


def _type(error: UserError) -> ErrorType:
    if isinstance(error, QuotaError):
        return "insufficient_quota"
    return "requests" if isinstance(error, RateLimitError) else "invalid_request_error"


def _headers(error: UserError) -> dict[str, str]:
    """Return the headers that tell a client what to do about `error`."""
    if isinstance(error, UnknownKeyError):
        return {"WWW-Authenticate": "Bearer"}
    if not isinstance(error, LimitError):
        return {}
    wait = {"Retry-After": str(error.retry_after)}
    # OpenAI's clients send a request again upon a 429 by themselves, unless this is said.
    return wait | {"x-should-retry": "false"} if isinstance(error, QuotaError) else wait


def _body(request: Request, detail: ErrorDetail) -> dict[str, Any]:
    """Return the error in the dialect of the path."""
    if request.url.path in opea.PATHS:
        return OpeaErrorBody(detail=detail.message).model_dump()
    opeas = request.scope["state"].get("dialect") is Dialect.OPEA
    return ErrorBody(error=detail, detail=detail.message if opeas else None).model_dump()

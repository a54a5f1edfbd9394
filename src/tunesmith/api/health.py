"""`/health`, `/ready`, OPEA's `/v1/health_check` and `/v1/statistics`: for whoever watches."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, Response

from tunesmith.api.answers import WireRoute
from tunesmith.api.services import Serviced, Services
from tunesmith.domain.liveness import BEAT, CONTROLLER, PATIENCE, STANDBY, SignOfLife
from tunesmith.protocol.health import ReadyObject
from tunesmith.protocol.opea import OpeaHealth

router = APIRouter(route_class=WireRoute, tags=["health"])
"""The routes that need no key."""

_log = logging.getLogger(__name__)


@router.get("/health", response_class=Response)
def health() -> Response:
    """Answer that the service is up, with an empty body."""
    return Response()


@router.get(
    "/ready",
    response_model=ReadyObject,
    responses={503: {"model": ReadyObject, "description": "What is missing"}},
)
def ready(services: Serviced, request: Request) -> Response:
    """Say whether the service can run jobs: the database, the controller, Ray; 503 if it cannot."""
    found = _look(services)
    if request.app.state.draining.is_set():
        missing = [*found.missing, "This service is ending."]
        found = found.model_copy(update={"status": "unready", "missing": missing})
    return Response(
        found.model_dump_json(),
        status_code=503 if found.missing else 200,
        headers={"Retry-After": str(BEAT)} if found.missing else {},
        media_type="application/json",
    )


@router.get("/v1/health_check", response_model_by_alias=True)
def health_check(services: Serviced) -> OpeaHealth:
    """Say what the service is."""
    return OpeaHealth(
        title="Tunesmith",
        version=services.version,
        description="Fine-tuning of language models through OpenAI's and OPEA's APIs",
    )


@router.get(
    "/v1/statistics",
    responses={200: {"content": {"application/json": {"example": {}}}}},
)
def statistics() -> dict[str, dict[str, float]]:
    """Answer with an empty object, as OPEA's fine-tuning service does, which measures no calls."""
    return {}


def _look(services: Services) -> ReadyObject:
    lack = services.disk.lack()
    found = ReadyObject(
        status="unready",
        store=True,
        controller=False,
        cluster=False,
        standby=False,
        disk=lack is None,
        missing=[lack] if lack else [],
    )
    try:
        sign = services.store.last_sign(CONTROLLER)
        standby = services.store.lease(STANDBY) is not None
    except Exception:  # noqa: BLE001  whatever keeps it from answering is what this is asked for
        _log.exception("The database does not answer")
        missing = ["The database does not answer; see the log.", *found.missing]
        return found.model_copy(update={"store": False, "missing": missing})
    if sign is None or services.now() - sign.at > PATIENCE:
        missing = [_no_sign(sign, now=services.now()), *found.missing]
        return found.model_copy(update={"standby": standby, "missing": missing})
    seen = {"controller": True, "cluster": sign.cluster_up, "standby": standby}
    if not sign.cluster_up:
        silent = "Ray does not answer the controller, or has not started yet."
        return found.model_copy(update=seen | {"missing": [silent, *found.missing]})
    return found.model_copy(update=seen | {"status": "unready" if lack else "ready"})


def _no_sign(sign: SignOfLife | None, *, now: int) -> str:
    if sign is None:
        return "The controller has given no sign of life yet."
    return f"The controller has given no sign of life for {now - sign.at} s."

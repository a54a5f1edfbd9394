"""`/metrics`: what Prometheus is told of this process and of the service; and what it counts.

What all processes see alike is read from the store upon each scrape, so that it matters neither
which of several services is scraped, nor when one was started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.api.access import METRICS
from tunesmith.api.answers import WireRoute
from tunesmith.domain.clock import Clock
from tunesmith.domain.figures import Figures
from tunesmith.domain.jobs import JobStatus
from tunesmith.store.figure_protocol import FigureStore

router = APIRouter(route_class=WireRoute, tags=["health"])
"""The route that Prometheus asks."""

REQUESTS = Counter(
    "tunesmith_http_requests",
    "Requests that were answered, by the route's template and the answer's status.",
    ["method", "route", "status"],
)
"""`route` is `page` for the page, and `none` for what is no route."""

SECONDS = Histogram(
    "tunesmith_http_request_seconds",
    "Seconds until the answer of a request began.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
"""A stream may go on for hours, so that its end says nothing."""

IN_FLIGHT = Gauge("tunesmith_http_requests_in_flight", "Requests that are being answered.")
"""Streams are among them."""

_log = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@router.get(
    METRICS,
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Tell Prometheus how the service does, in its text format."""
    service: CollectorRegistry = request.app.state.figures
    return Response(
        generate_latest(REGISTRY) + generate_latest(service),
        headers={"Content-Type": CONTENT_TYPE_LATEST},
    )


def service_figures(store: FigureStore, clock: Clock) -> CollectorRegistry:
    """Return what is read from `store` upon each scrape."""
    registry = CollectorRegistry()
    registry.register(_Service(store, clock))
    return registry


class _Service(Collector):
    """The figures of the whole service."""

    def __init__(self, store: FigureStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def describe(self) -> list[Metric]:
        # Else the registry would ask the store for the names when this is registered.
        return []

    def collect(self) -> Iterator[Metric]:
        figures, now = self._look(), self._clock.now()
        answers = "Whether the database answers; where not, most of the rest is missing."
        yield GaugeMetricFamily("tunesmith_store_up", answers, value=figures is not None)
        if figures is None:
            return
        yield from _of_jobs(figures, now=now)
        yield from _of_runs(figures)
        yield from _of_cluster(figures, now=now)

    def _look(self) -> Figures | None:
        try:
            return self._store.figures()
        except Exception:  # noqa: BLE001  whatever keeps it from answering is what is to be seen
            _log.exception("The database does not answer")
            return None


def _of_jobs(figures: Figures, *, now: float) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("tunesmith_jobs", "Jobs by their status.", labels=["status"])
    for status in JobStatus:
        jobs.add_metric([status.value], figures.jobs.get(status, 0))
    yield jobs
    depth = "Jobs in the queue that have no attempt on the cluster."
    yield GaugeMetricFamily("tunesmith_queue_depth", depth, value=figures.waiting)
    waited = now - figures.head_since if figures.head_since is not None else 0
    head = "Seconds that the job which is first in line has waited; 0 where none waits."
    yield GaugeMetricFamily("tunesmith_queue_head_wait_seconds", head, value=max(0, waited))


def _of_runs(figures: Figures) -> Iterator[Metric]:
    """Yield how the running jobs do: so many series as the cluster runs jobs at once."""
    for name, field, help_ in (
        ("step", "step", "Last optimizer step of a running job."),
        ("steps", "total_steps", "Steps of a running job's whole run."),
        ("train_loss", "train_loss", "Loss of a running job's last step, in nats."),
        ("valid_loss", "valid_loss", "Held-out loss of a running job's last step, in nats."),
        ("tokens_per_second", "tokens_per_second", "Tokens that a running job trains on a second."),
    ):
        family = GaugeMetricFamily(f"tunesmith_job_{name}", help_, labels=["job_id", "project"])
        for run in figures.running:
            value = run.model_dump(include={field})[field]
            if value is not None:
                family.add_metric([run.job_id, run.project], value)
        yield family


def _of_cluster(figures: Figures, *, now: float) -> Iterator[Metric]:
    sign = figures.controller
    age = GaugeMetricFamily(
        "tunesmith_controller_sign_age_seconds",
        "Seconds since the controller's last sign of life; absent where there never was one.",
    )
    if sign is not None:
        age.add_metric([], max(0, now - sign.at))
    yield age
    up = bool(sign and sign.cluster_up)
    yield GaugeMetricFamily("tunesmith_cluster_up", "Whether Ray answered it then.", value=up)
    standby = "Whether a second controller stands by."
    yield GaugeMetricFamily("tunesmith_standby", standby, value=figures.standby)
    for name, amounts in (
        ("there", sign.there if sign else {}),
        ("held", sign.held if sign else {}),
    ):
        family = GaugeMetricFamily(
            f"tunesmith_cluster_resources_{name}",
            f"What of the cluster's resources is {name}; memory is in bytes.",
            labels=["resource"],
        )
        for resource, amount in amounts.items():
            family.add_metric([resource], amount)
        yield family


class Counted:
    """ASGI middleware that counts requests, and measures how long their answers take to begin."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    # ASGI servers pass all three by position.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917
        """Pass the request on, and its answer back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        began, status = time.perf_counter(), "none"

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                SECONDS.labels(method, route_of(scope)).observe(time.perf_counter() - began)
            await send(message)

        with IN_FLIGHT.track_inprogress():
            try:
                await self._app(scope, receive, send_counted)
            finally:
                REQUESTS.labels(method, route_of(scope), status).inc()


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request took, of which there are not many."""
    path = getattr(scope.get("route"), "path", None)
    if path is not None:
        return str(path)
    return "page" if "endpoint" in scope else "none"

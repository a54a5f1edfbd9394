"""Traces: spans from the request to the training step, sent to an OpenTelemetry collector.

Nothing is imported and nothing is traced until `start_tracing` finds that the usual variables of
OpenTelemetry name a collector. What hands work on hands on `traceparent()` with it.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunesmith.settings import traces_wanted

_log = logging.getLogger(__name__)

_PATIENCE = 2000
"""Milliseconds for which a process that ends waits for its last spans to be taken."""


class _State:
    """What this process traces with; nothing at first."""

    tracer: Any = None
    provider: Any = None


_STATE = _State()


class Span:
    """Something that takes its time; says nothing where nothing is traced."""

    def __init__(self, inner: Any = None) -> None:
        """Stand for OpenTelemetry's span `inner`."""
        self._inner = inner

    def note(self, **attributes: str | float) -> None:
        """Add `attributes`."""
        if self._inner is not None:
            self._inner.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """Give the span the name that is known only now."""
        if self._inner is not None:
            self._inner.update_name(name)


def start_tracing(process: str) -> None:
    """Trace from here on as `tunesmith-<process>`, where a collector is named; else do nothing.

    Without the libraries (`tunesmith[otel]`), that is logged, and nothing is traced.
    """
    if not traces_wanted() or _STATE.tracer is not None:
        return
    try:
        exporter = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
    except ImportError:
        _log.warning("Nothing is traced: this install lacks 'tunesmith[otel]'.")
        return
    resource = resources.Resource.create({"service.name": f"tunesmith-{process}"})
    # Its own hook at the interpreter's end would wait for a collector that is gone.
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(exporter.OTLPSpanExporter()))
    _STATE.provider, _STATE.tracer = provider, provider.get_tracer("tunesmith")
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)


def stop_tracing() -> None:
    """Send what is not sent yet, as far as the collector takes it within two seconds."""
    if _STATE.provider is not None:
        _STATE.provider.force_flush(_PATIENCE)


def is_traced() -> bool:
    """Tell whether this process traces."""
    return _STATE.tracer is not None


@contextmanager
def span(name: str, *, parent: str | None = None, **attributes: str | float) -> Iterator[Span]:
    """Trace the block as a span below `parent`, a `traceparent`, or else below the current one.

    An exception that leaves the block is noted with the span.
    """
    if _STATE.tracer is None:
        yield Span()
        return
    above = _context(parent)
    with _STATE.tracer.start_as_current_span(name, context=above, attributes=attributes) as inner:
        yield Span(inner)


def add_span(name: str, *, began: float, ended: float, **attributes: str | float) -> None:
    """Trace what took from `began` to `ended`, in unix seconds, below the current span."""
    if _STATE.tracer is not None:
        nanoseconds = int(began * 1e9)
        inner = _STATE.tracer.start_span(name, start_time=nanoseconds, attributes=attributes)
        inner.end(int(ended * 1e9))


def traceparent() -> str | None:
    """Return the current span as W3C's Trace Context writes it; `None` where nothing is traced."""
    if _STATE.tracer is None:
        return None
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get("traceparent")


def _context(parent: str | None) -> Any:
    return None if parent is None else _propagator().extract({"traceparent": parent})


def _propagator() -> Any:
    module = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
    return module.TraceContextTextMapPropagator()

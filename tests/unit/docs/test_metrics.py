"""Each metric is documented, and what the example dashboard shows is there."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

from stores import fresh_store
from tunesmith.api import metrics
from tunesmith.artifacts import timed
from tunesmith.controller import loop
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.liveness import CONTROLLER, SignOfLife
from tunesmith.store import database

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "tunesmith.json"
TELLING = (metrics, timed, loop, database)
"""The modules that have metrics of their own."""


def told() -> list[Metric]:
    """Return all metrics of ours that the processes tell."""
    clock = FakeClock()
    store = fresh_store(clock)
    store.give_sign(SignOfLife(process=CONTROLLER, at=int(clock.now()), cluster_up=True))
    assert TELLING
    ours = [each for each in REGISTRY.collect() if each.name.startswith("tunesmith_")]
    return [*ours, *metrics.service_figures(store, clock).collect()]


def names() -> set[str]:
    return {f"{each.name}_total" if each.type == "counter" else each.name for each in told()}


def test_every_metric_is_explained_and_nothing_else() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(tunesmith_\w+)` \|", page, flags=re.MULTILINE))
    assert explained == names()


def test_the_dashboard_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "grafana.py"))
    assert DASHBOARD.read_text(encoding="utf-8") == script["dashboard"](), (
        "Run `python scripts/grafana.py`."
    )


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(panels) == 15
    assert all(panel["title"] and panel["targets"] for panel in panels)
    shown = {name for query in queries for name in re.findall(r"tunesmith_\w+", query)}
    assert {name.removesuffix("_bucket") for name in shown} == names()
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)

"""Writes the example dashboard for Grafana: `python scripts/grafana.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent.parent / "deploy" / "grafana" / "tunesmith.json"

RATE = "[$__rate_interval]"

PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Jobs by status",
        "short",
        (("max by (status) (tunesmith_jobs)", "{{status}}"),),
    ),
    (
        "Queue: jobs that wait",
        "short",
        (("max(tunesmith_queue_depth)", "waiting"),),
    ),
    (
        "Queue: wait of the first in line",
        "s",
        (("max(tunesmith_queue_head_wait_seconds)", "first in line"),),
    ),
    (
        "Cluster: share held",
        "percentunit",
        (
            (
                "max by (resource) (tunesmith_cluster_resources_held) "
                "/ max by (resource) (tunesmith_cluster_resources_there)",
                "{{resource}}",
            ),
        ),
    ),
    (
        "Running jobs: loss",
        "short",
        (
            ("max by (job_id) (tunesmith_job_train_loss)", "{{job_id}} training"),
            ("max by (job_id) (tunesmith_job_valid_loss)", "{{job_id}} held out"),
        ),
    ),
    (
        "Running jobs: tokens per second",
        "short",
        (("max by (job_id) (tunesmith_job_tokens_per_second)", "{{job_id}}"),),
    ),
    (
        "Running jobs: share of the steps",
        "percentunit",
        (
            (
                "max by (job_id) (tunesmith_job_step) / max by (job_id) (tunesmith_job_steps)",
                "{{job_id}}",
            ),
        ),
    ),
    (
        "Service: database, Ray, second controller",
        "short",
        (
            ("min(tunesmith_store_up)", "database"),
            ("min(tunesmith_cluster_up)", "Ray"),
            ("max(tunesmith_standby)", "second controller"),
        ),
    ),
    (
        "Controller: age of its last sign of life",
        "s",
        (("max(tunesmith_controller_sign_age_seconds)", "age"),),
    ),
    (
        "Requests by status",
        "reqps",
        ((f"sum by (status) (rate(tunesmith_http_requests_total{RATE}))", "{{status}}"),),
    ),
    (
        "Requests: 95th percentile until the answer begins",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le, route) "
                f"(rate(tunesmith_http_request_seconds_bucket{RATE})))",
                "{{route}}",
            ),
        ),
    ),
    (
        "Requests in flight",
        "short",
        (("sum(tunesmith_http_requests_in_flight)", "in flight"),),
    ),
    (
        "Database: 95th percentile of transactions",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le, kind) "
                f"(rate(tunesmith_store_transaction_seconds_bucket{RATE})))",
                "{{kind}}",
            ),
        ),
    ),
    (
        "Artifacts: 95th percentile of calls",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le, operation) "
                f"(rate(tunesmith_artifact_seconds_bucket{RATE})))",
                "{{operation}}",
            ),
        ),
    ),
    (
        "Controller: 95th percentile of passes",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le) "
                f"(rate(tunesmith_controller_pass_seconds_bucket{RATE})))",
                "passes",
            ),
            (f"rate(tunesmith_controller_faults_total{RATE})", "faults a second"),
        ),
    ),
)
"""Title, unit, and the queries with their legends; all services of one data folder tell alike."""


def dashboard() -> str:
    """Return the dashboard as Grafana imports it."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [_panel(number, source=source) for number in range(len(PANELS))]
    whole = {
        "title": "Tunesmith",
        "uid": "tunesmith",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }
    return json.dumps(whole, indent=2) + "\n"


def _panel(number: int, *, source: dict[str, str]) -> dict[str, Any]:
    title, unit, queries = PANELS[number]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"h": 8, "w": 8, "x": 8 * (number % 3), "y": 8 * (number // 3)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": "ABC"[place], "datasource": source, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(queries)
        ],
    }


if __name__ == "__main__":
    DASHBOARD.write_text(dashboard(), encoding="utf-8")

"""Each process imports only what it needs: the API answers at once, its image needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "peft", "ray", "gguf", "safetensors", "alembic"}


@pytest.mark.parametrize(
    ("module", "also_absent"),
    [
        ("tunesmith.cli.main", {"fastapi", "openai"}),
        ("tunesmith.api.app", {"openai"}),
        ("tunesmith.controller.loop", {"fastapi", "sqlalchemy"}),
        ("tunesmith.cluster.local_head", {"fastapi", "sqlalchemy"}),
    ],
)
def test_a_module_brings_no_heavy_library_along(module: str, also_absent: set[str]) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules), sep=chr(10))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert module in done.stdout.splitlines()
    assert set(done.stdout.splitlines()) & (HEAVY | also_absent) == set()


def test_the_doors_to_a_cluster_with_a_dashboard_need_no_ray() -> None:
    program = """
import sys
from tunesmith.cli.clusters import find_ray, open_cluster
from tunesmith.cli.serve import _leave
from tunesmith.settings import load_settings
settings = load_settings({"ray_address": "http://head:8265"})
_leave(open_cluster(settings, leads=lambda: True), None, store=None, holder="me")
print(find_ray(settings).dashboard, *sorted(sys.modules), sep=chr(10))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("http://head:8265")
    assert set(done.stdout.splitlines()) & {"ray", "psutil", "torch"} == set()

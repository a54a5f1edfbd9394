"""Whatever is asked within our own description is answered as it says, and never by a fault."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case

from tunesmith.api.app import create_app
from unit.api.conftest import World

schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(World().services))


@schema.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_each_route_keeps_its_description(case: Case[Any]) -> None:
    case.call_and_validate()

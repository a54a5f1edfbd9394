from __future__ import annotations

import pytest

from unit.controller.world import World


@pytest.fixture
def world() -> World:
    return World()

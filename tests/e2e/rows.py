"""Training files for the end-to-end tests."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any


def jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    """Return `rows` as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def sums(count: int) -> bytes:
    """Return `count` conversations of one sum each; the same ones at each call."""
    chance = random.Random(3)
    rows = []
    for _ in range(count):
        a, b = chance.randrange(50), chance.randrange(50)
        user = {"role": "user", "content": f"{a} plus {b}?"}
        rows.append({"messages": [user, {"role": "assistant", "content": str(a + b)}]})
    return jsonl(rows)


def preferences(count: int) -> bytes:
    """Return `count` preference pairs in OpenAI's format."""
    return jsonl(
        {
            "input": {"messages": [{"role": "user", "content": f"Double {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": str(2 * n)}],
            "non_preferred_output": [{"role": "assistant", "content": f"I do not know {n}."}],
        }
        for n in range(count)
    )

"""Groups of nodes that a cluster may add."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tunesmith.domain.values import Value

_UNITS = {
    **{"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40},
    **{"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
}
"""What Kubernetes writes behind a number."""


def _quantity(amount: object) -> object:
    """Return the number that `amount` stands for, where it is a text such as `64Gi`."""
    if not isinstance(amount, str):
        return amount
    unit = next((unit for unit in _UNITS if amount.endswith(unit)), "")
    try:
        return float(amount.removesuffix(unit)) * _UNITS.get(unit, 1)
    except ValueError:
        raise PydanticCustomError("quantity", "Give a number, such as 8 or '64Gi'") from None


class NodeGroup(Value):
    """Nodes of one kind, which whoever scales the cluster adds when they are asked for."""

    resources: Annotated[
        dict[str, Annotated[float, BeforeValidator(_quantity), Field(gt=0, allow_inf_nan=False)]],
        Field(min_length=1),
    ]
    """What one of them has, by Ray's names: `CPU`, `memory` in bytes, `GPU`, `HPU` and so on.
    Kubernetes' units may stand behind a number, as in `"64Gi"`. Memory that is not told is taken
    to be enough."""
    most: Annotated[int, Field(ge=1, le=10_000)]
    """How many of them there may be at once."""
    least: Annotated[int, Field(ge=0)] = 0
    """How many of them stay when nothing runs on them."""

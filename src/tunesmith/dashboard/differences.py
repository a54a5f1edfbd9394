"""What differs between two jobs."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.dashboard.door import Thing
from tunesmith.dashboard.settings_shown import settings_of


@dataclass(frozen=True)
class Difference:
    """One thing of two jobs."""

    name: str
    """What it is."""
    first: object
    """What the first job has."""
    second: object
    """What the second has."""

    @property
    def differs(self) -> bool:
        """Whether they are not the same."""
        return bool(self.first != self.second)


def of_data(first: Thing, second: Thing) -> list[Difference]:
    """Return what the jobs learn from, side by side."""
    keys = {"Training file": "training_file", "Held-out file": "validation_file"}
    return [Difference(name, first.get(key), second.get(key)) for name, key in keys.items()]


def of_settings(first: Thing, second: Thing) -> list[Difference]:
    """Return all settings of both jobs side by side, those that differ first."""
    one, two = settings_of(first), settings_of(second)
    names = [*one, *(name for name in two if name not in one)]
    found = [Difference(name, one.get(name), two.get(name)) for name in names]
    return sorted(found, key=lambda each: not each.differs)

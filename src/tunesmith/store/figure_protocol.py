"""What those who watch the service ask of the store."""

from __future__ import annotations

from typing import Protocol

from tunesmith.domain.figures import Figures


class FigureStore(Protocol):
    """Counts what is there, over all projects, whatever project the store is within."""

    def figures(self) -> Figures:
        """Return how the service stands now, from a few questions that indexes answer."""

"""What the API asks of the models that the cluster has in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from tunesmith.domain.answers import Piece, Question


class Answering(Protocol):
    """Puts questions to models."""

    def ask(self, question: Question) -> AsyncGenerator[Piece]:
        """Yield the answers to `question`, piece by piece as they come.

        What is told last is a fault, where there is one. Whoever stops listening closes the
        iterator, and the model stops. Raises `ClusterUnavailableError` where there is no cluster,
        and `BusyError` where it takes long until anything there answers.
        """

    async def close(self) -> None:
        """Ask nothing any more."""

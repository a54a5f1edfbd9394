"""Models in memory of a test, which answer as it says; they pass the same contract as Ray's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable

from tunesmith.domain.answers import Finish, Piece, Question
from tunesmith.domain.errors import ClusterUnavailableError


def echo(question: Question) -> Iterable[Piece]:
    """Answer each question with one word."""
    yield Piece(prompt_tokens=3)
    for answer in range(question.count):
        yield Piece(answer=answer, text="Yes.")
        yield Piece(answer=answer, finish=Finish.STOP, tokens=2)


class FakeAnswering:
    """Answers at once."""

    def __init__(self, answer: Callable[[Question], Iterable[Piece]] = echo) -> None:
        """Answer by `answer`."""
        self.answer = answer
        """What is said; a test may set another."""
        self.asked: list[Question] = []
        """What was asked, in order."""
        self.left = 0
        """How many went before all was told."""
        self.unavailable = False
        """While true, there is no cluster."""

    async def ask(self, question: Question) -> AsyncGenerator[Piece]:
        """Yield what `answer` says; see `Answering.ask`."""
        if self.unavailable:
            raise ClusterUnavailableError
        self.asked.append(question)
        whole = False
        try:
            for piece in self.answer(question):
                yield piece
            whole = True
        finally:
            self.left += not whole

    async def close(self) -> None:
        """Do nothing."""

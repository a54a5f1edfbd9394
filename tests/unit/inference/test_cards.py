"""Which engine answers: a card where one can be had, else processors, and the log says which."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from tunesmith.domain.answers import Answerer, Piece, Prompts, Question
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.inference.asking import ElsewhereError
from tunesmith.inference.cards import Borrowed, Cards, NoVllmError
from tunesmith.inference.serving import Machines

ray = pytest.importorskip("ray")

ASK = Question(
    answerer=Answerer(base=CatalogueEntry(name="tiny", source=FolderSource(path=Path("/tiny")))),
    asked=Prompts(prompts=("one",)),
)
ANSWER = [Piece(prompt_tokens=1), Piece(text="Yes."), Piece(text=" No.")]


class Stub:
    """A card that answers, until an `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.left = False

    async def answers(self, question: Question) -> AsyncGenerator[Piece]:
        try:
            if isinstance(self.error, ElsewhereError):
                raise self.error
            for piece in ANSWER:
                yield piece
            if self.error is not None:
                raise self.error
        except GeneratorExit:
            self.left = True
            raise


class Pool:
    """Lends what it has, one after another; an exception is raised."""

    def __init__(self, *lent: Borrowed | Exception | None) -> None:
        self.lent = list(lent)
        self.asked = 0

    def __call__(self) -> Borrowed | None:
        self.asked += 1
        found = self.lent.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def told(*rounds: Callable[[], object], pool: Pool, now: list[float]) -> list[list[Piece] | str]:
    """What each of several questions is told; the words where processors are to answer."""

    async def ask() -> list[list[Piece] | str]:
        cards = Cards(pool, clock=lambda: now[0])
        found: list[list[Piece] | str] = []
        for begin in rounds:
            begin()
            try:
                found.append([piece async for piece in cards.pieces(ASK)])
            except ElsewhereError as error:
                found.append(str(error))
        return found

    return asyncio.run(ask())


def at(now: list[float], time: float) -> Callable[[], object]:
    return lambda: now.__setitem__(0, time)


def test_a_card_is_borrowed_once_and_answers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tunesmith.inference.cards")
    pool, now = Pool(Stub()), [0.0]

    assert told(at(now, 1), at(now, 2), pool=pool, now=now) == [ANSWER, ANSWER]

    assert pool.asked == 1
    assert caplog.messages == ["Texts are continued by vLLM, on a graphics card"]


def test_where_none_is_free_it_is_asked_for_again_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tunesmith.inference.cards")
    pool, now = Pool(None, Stub()), [0.0]

    found = told(at(now, 1), at(now, 30), at(now, 62), pool=pool, now=now)

    why = "no graphics card of the cluster is free"
    assert found == [why, why, ANSWER]
    assert pool.asked == 2
    assert caplog.messages[0] == f"tiny is answered by transformers, on processors: {why}"
    assert len(caplog.messages) == 2


def test_where_vllm_is_not_installed_no_card_is_asked_for_again() -> None:
    pool, now = Pool(NoVllmError("there is no vLLM")), [0.0]

    found = told(at(now, 1), at(now, 1e6), pool=pool, now=now)

    assert found == ["there is no vLLM"] * 2
    assert pool.asked == 1


def test_what_the_card_does_not_take_is_answered_elsewhere_and_the_card_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tunesmith.inference.cards")
    pool, now = Pool(Stub(ElsewhereError("its config has 'use_dora'"))), [0.0]

    found = told(at(now, 1), at(now, 2), pool=pool, now=now)

    assert found == ["its config has 'use_dora'"] * 2
    assert pool.asked == 1
    assert caplog.messages[1:] == [
        "tiny is answered by transformers, on processors: its config has 'use_dora'"
    ]


def test_a_card_that_is_gone_is_told_and_another_one_borrowed() -> None:
    gone = Stub(ray.exceptions.RayActorError())
    pool, now = Pool(gone, Stub()), [0.0]

    first, second = told(at(now, 1), at(now, 2), pool=pool, now=now)

    assert isinstance(first, list)
    assert first[:-1] == ANSWER
    assert first[-1].fault is not None
    assert second == ANSWER


def test_who_stops_listening_leaves_the_card_in_time() -> None:
    card = Stub()

    async def leave() -> None:
        async with aclosing(Cards(lambda: card).pieces(ASK)) as found:
            await anext(found)

    asyncio.run(leave())

    assert card.left


@pytest.mark.parametrize(
    ("machines", "replicas", "together"),
    [
        (Machines(nodes=3, cards=0, processors=8), 3, 8),
        (Machines(nodes=3, cards=1, processors=8), 1, 64),
        (Machines(nodes=1, cards=8, processors=8), 1, 64),
    ],
)
def test_replicas_are_as_many_as_nodes_or_cards(
    machines: Machines, replicas: int, together: int
) -> None:
    assert (machines.replicas, machines.together) == (replicas, together)

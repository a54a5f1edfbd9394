"""One model is on the card with its adapters; what it does not take is answered elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models import vllm as stand_in
from tunesmith.domain.answers import Answerer
from tunesmith.domain.errors import BusyError, ModelUnavailableError
from tunesmith.inference.asking import ElsewhereError
from tunesmith.inference.card import Card
from tunesmith.inference.shelf import Shelf
from tunesmith.inference.vllm_engine import Adapters
from unit.inference.test_shelf import Library, asked, said


@pytest.fixture
def library(tmp_path: Path) -> Library:
    stand_in.Llm.made.clear()
    return Library(tmp_path)


@pytest.fixture
def card(library: Library) -> Iterator[Card]:
    adapters = Adapters(most=2, rank=64)
    card = Card(library.artifacts, vllm=stand_in.library(), adapters=adapters)
    yield card
    card.close()


def answer(card: Card, answerer: Answerer) -> list[int]:
    with card.asking(answerer) as ready:
        return asked(ready).tokens


def test_a_model_and_its_adapters_answer_as_on_processors(library: Library, card: Card) -> None:
    shelf = Shelf(library.artifacts)
    asking = [library.base(), *(library.adapted(name) for name in ("a", "b"))]

    answers = [answer(card, answerer) for answerer in (*asking, *asking)]

    assert answers == [said(shelf, answerer) for answerer in asking] * 2
    assert len({tuple(each) for each in answers}) == 3
    assert len(stand_in.Llm.made) == 1
    shelf.close()


def test_the_adapter_that_nobody_asked_for_longest_makes_room(library: Library, card: Card) -> None:
    names = ("a", "b", "c")
    first = [answer(card, library.adapted(name)) for name in names]

    assert [answer(card, library.adapted(name)) for name in reversed(names)] == first[::-1]
    (vllm,) = stand_in.Llm.made
    assert len(vllm.loras) == 2
    with (
        card.asking(library.adapted("a")),
        card.asking(library.adapted("b")),
        pytest.raises(BusyError, match="adapters"),
        card.asking(library.adapted("c")),
    ):
        pass


def test_another_model_takes_the_card_once_it_is_idle(library: Library, card: Card) -> None:
    one, two = library.base("one"), library.base("two")

    with (
        card.asking(one),
        pytest.raises(ElsewhereError, match="another model"),
        card.asking(two),
    ):
        pass
    answer(card, two)

    assert [vllm.closed for vllm in stand_in.Llm.made] == [True, False]


def test_an_adapter_of_a_larger_rank_has_the_model_loaded_with_more_room(
    library: Library, card: Card
) -> None:
    small, large = library.adapted("a"), library.adapted("large", r=65)
    answer(card, small)

    with card.asking(small), pytest.raises(BusyError), card.asking(large):
        pass
    answer(card, large)
    answer(card, small)

    assert [vllm.arguments.max_lora_rank for vllm in stand_in.Llm.made] == [64, 128]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 513, "target_modules": ["q_proj"]}, "513"),
    ],
)
def test_what_vllm_would_misread_is_nothing_for_the_card(
    library: Library, card: Card, changes: dict[str, object], why: str
) -> None:
    special = library.adapted("special", **changes)

    for _ in range(2):
        with pytest.raises(ElsewhereError, match=why), card.asking(special):
            pass

    assert not stand_in.Llm.made
    assert answer(card, library.base())


def test_a_model_that_vllm_does_not_start_with_is_tried_once(
    library: Library, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[stand_in.Arguments] = []

    def refuse(_: object, arguments: stand_in.Arguments) -> None:
        tried.append(arguments)
        raise ValueError("no such architecture")

    monkeypatch.setattr(stand_in.Llm, "__init__", refuse)

    for answerer in (library.base(), library.adapted("a")):
        with (
            pytest.raises(ElsewhereError, match="no such architecture"),
            card.asking(answerer),
        ):
            pass

    assert len(tried) == 1


def test_a_model_whose_process_ended_is_brought_to_the_card_anew(
    library: Library, card: Card
) -> None:
    answer(card, library.base())
    stand_in.Llm.made[0].errored = True

    assert answer(card, library.base())
    assert len(stand_in.Llm.made) == 2


def test_what_was_deleted_is_told(library: Library, card: Card) -> None:
    gone = library.base().model_copy(update={"adapter": "results/gone"})

    with pytest.raises(ModelUnavailableError, match="no longer there"), card.asking(gone):
        pass

"""A process on a card that Ray counts answers, is left in time, and gives the card back.

The card is one by name only, and what stands in for vLLM computes on the processor; where vLLM is
installed with a build for processors, that answers, too.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from models import vllm as stand_in
from models.tiny import save_tiny_llama
from tunesmith.domain.answers import Answerer, Piece, Prompts, Question, Sampling
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.inference.asking import ElsewhereError
from tunesmith.inference.cards import Cards, NoVllmError, borrow

ray = pytest.importorskip("ray")
REAL = importlib.util.find_spec("vllm") is not None


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    # The stand-in is found where this test finds it.
    here = {"env_vars": {"PYTHONPATH": str(Path(stand_in.__file__).parents[1])}}
    ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False, runtime_env=here)
    yield
    ray.shutdown()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    save_tiny_llama(tmp_path / "llama")
    return tmp_path


def question(data: Path, **sampling: Any) -> Question:
    entry = CatalogueEntry(name="tiny", source=FolderSource(path=data / "llama"))
    return Question(
        answerer=Answerer(base=entry),
        asked=Prompts(prompts=("one",)),
        sampling=Sampling(temperature=0, **sampling),
    )


def free(cards: float, *, within: float = 60) -> None:
    limit = time.monotonic() + within
    while ray.available_resources().get("GPU", 0) != cards:
        assert time.monotonic() < limit, ray.available_resources()
        time.sleep(0.1)


@pytest.mark.parametrize(
    "vllm",
    [
        stand_in.library,
        pytest.param(None, marks=pytest.mark.skipif(not REAL, reason="vLLM is not installed")),
    ],
)
def test_a_borrowed_card_answers_and_is_given_back(
    data: Path, vllm: Callable[[], Any] | None
) -> None:
    async def ask() -> tuple[list[Piece], list[Piece], Piece]:
        cards = Cards(lambda: borrow(str(data), vllm=vllm))
        first = [piece async for piece in cards.pieces(question(data, max_tokens=5))]
        assert borrow(str(data), vllm=vllm) is None
        async with aclosing(cards.pieces(question(data, logprobs=0))) as endless:
            left = await anext(endless)
            await anext(endless)
        again = [piece async for piece in cards.pieces(question(data, max_tokens=5))]
        return first, again, left

    free(1)
    first, again, left = asyncio.run(ask())

    assert first == again
    assert (first[0].prompt_tokens, first[-1].tokens) == (3, 5)
    assert left.prompt_tokens == 3
    # Nothing refers to the process any more.
    free(1)


def test_what_the_card_does_not_take_is_told_in_its_own_words(data: Path) -> None:
    async def ask() -> None:
        cards = Cards(lambda: borrow(str(data), vllm=stand_in.library))
        wrong = question(data)
        (data / "llama" / "config.json").write_text('{"model_type": "nothing"}')
        with pytest.raises(ElsewhereError, match="vLLM does not start with it") as refused:
            await anext(cards.pieces(wrong))
        assert "Traceback" not in str(refused.value)

    asyncio.run(ask())


@pytest.mark.skipif(REAL, reason="vLLM is installed")
def test_a_node_without_vllm_gives_the_card_back(data: Path) -> None:
    free(1)
    with pytest.raises(NoVllmError, match="No module named 'vllm'"):
        borrow(str(data))
    free(1)

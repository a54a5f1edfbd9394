"""A question is put to a model in memory, and its answers are told in pieces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.tiny import byte_tokenizer, save_tiny_bert, save_tiny_llama
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.dataset.prompting import end_tokens
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.answers import (
    Answerer,
    Chat,
    Chosen,
    Finish,
    Passages,
    Piece,
    Prompts,
    Question,
    Sampling,
    Texts,
    Turn,
)
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.inference.engine import Engine, Text
from tunesmith.inference.ranked import Ranked
from tunesmith.inference.shelf import Ready
from tunesmith.inference.telling import Memory, memory, pieces
from unit.dataset.test_calling import LIST, LLAMA, OPENED, QWEN, THINKING

sentence_transformers = pytest.importorskip("sentence_transformers")

GREEDY = Sampling(temperature=0, max_tokens=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    save_tiny_llama(folder / "llama")
    save_tiny_bert(folder / "bert")
    return folder


@pytest.fixture
def held(root: Path, tmp_path: Path) -> Iterator[Memory]:
    made = memory(LocalArtifacts(tmp_path), models=2)
    yield made
    made.shelf.close()


def question(root: Path, asked: Any, *, model: str = "llama", **fields: Any) -> Question:
    entry = CatalogueEntry(name=model, source=FolderSource(path=root / model))
    return Question(answerer=Answerer(base=entry), asked=asked, **({"sampling": GREEDY} | fields))


def told(asked: Question, held: Memory) -> list[Piece]:
    async def listen() -> list[Piece]:
        return [piece async for piece in pieces(asked, held)]

    return asyncio.run(listen())


def said(found: list[Piece], answer: int = 0) -> str:
    return "".join(piece.text for piece in found if piece.answer == answer)


def test_a_chat_is_answered_as_generate_answers_it(root: Path, held: Memory) -> None:
    tokenizer = AutoTokenizer.from_pretrained(root / "llama")
    model = AutoModelForCausalLM.from_pretrained(root / "llama")
    turns = [{"role": "user", "content": "Is it?"}]
    asked = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**asked, max_new_tokens=8, do_sample=False)
    new = made[0][asked["input_ids"].shape[1] :]

    found = told(question(root, Chat(turns=(Turn(role="user", content="Is it?"),))), held)

    assert found[0].prompt_tokens == asked["input_ids"].shape[1]
    assert said(found) == tokenizer.decode(new, skip_special_tokens=True)
    assert found[-1].finish in (Finish.LENGTH, Finish.STOP)


def test_each_prompt_has_its_answers_by_number(root: Path, held: Memory) -> None:
    alone = [told(question(root, Prompts(prompts=(text,))), held) for text in ("one", "two")]

    found = told(question(root, Prompts(prompts=("one", "two")), answers=2), held)

    assert [said(found, number) for number in range(4)] == [
        said(alone[0]),
        said(alone[0]),
        said(alone[1]),
        said(alone[1]),
    ]
    assert sorted(piece.answer for piece in found if piece.finish) == [0, 1, 2, 3]
    assert sum(piece.prompt_tokens or 0 for piece in found) == sum(
        piece.prompt_tokens or 0 for each in alone for piece in each
    )


def test_answers_that_are_drawn_differ_and_come_again_by_their_seed(
    root: Path, held: Memory
) -> None:
    drawn = Sampling(seed=5, max_tokens=8)

    first, second = (
        told(question(root, Prompts(prompts=("one",)), answers=2, sampling=drawn), held)
        for _ in range(2)
    )

    assert said(first, 0) == said(second, 0)
    assert said(first, 1) == said(second, 1)
    assert said(first, 0) != said(first, 1)


def test_tokens_are_spelt_where_their_likelihood_is_wanted(root: Path, held: Memory) -> None:
    sampling = GREEDY.model_copy(update={"logprobs": 2})

    found = told(question(root, Prompts(prompts=("one",)), sampling=sampling), held)

    spelt = [each for piece in found for each in piece.spelled]
    assert len(spelt) == found[-1].tokens
    assert all(each.logprob == each.likeliest[0].logprob for each in spelt)
    assert all(len(each.likeliest) == 2 for each in spelt)


@pytest.mark.parametrize(
    ("asked", "fields", "code"),
    [
        (Prompts(prompts=((1,) * 5000,)), {}, "context_length_exceeded"),
        (Prompts(prompts=((10**6,),)), {}, None),
        (Prompts(prompts=("one",)), {"sampling": Sampling(logit_bias={10**6: 1})}, None),
    ],
)
def test_what_the_model_cannot_take_is_a_fault_of_the_question(
    root: Path, held: Memory, asked: Prompts, fields: dict[str, Any], code: str | None
) -> None:
    (only,) = told(question(root, asked, **fields), held)

    assert only.fault is not None
    assert (only.fault.kind, only.fault.code) == ("asked", code)


def test_a_model_that_is_gone_is_told(root: Path, held: Memory) -> None:
    asked = question(root, Prompts(prompts=("one",)))
    gone = asked.answerer.model_copy(update={"adapter": "results/gone"})

    (only,) = told(asked.model_copy(update={"answerer": gone}), held)

    assert only.fault is not None
    assert only.fault.kind == "model"


def test_who_stops_listening_stops_the_model(root: Path, held: Memory) -> None:
    endless = question(
        root, Prompts(prompts=("one",)), sampling=Sampling(max_tokens=4000, logprobs=0)
    )

    async def leave() -> None:
        async with aclosing(pieces(endless, held)) as found:
            await anext(found)
            await anext(found)

    asyncio.run(asyncio.wait_for(leave(), 60))

    with held.shelf.asking(endless.answerer) as ready:
        assert isinstance(ready.engine, Engine)
        while ready.engine._going:
            time.sleep(0.01)
    assert said(told(question(root, Prompts(prompts=("one",))), held))


def test_vectors_are_those_of_sentence_transformers(root: Path, held: Memory) -> None:
    texts = ["one", "two words"]
    wanted = sentence_transformers.SentenceTransformer(str(root / "bert"), device="cpu")

    (only,) = told(question(root, Texts(texts=tuple(texts)), model="bert"), held)

    assert torch.allclose(torch.tensor(only.vectors), torch.tensor(wanted.encode(texts)))
    counted = wanted.tokenizer(texts)["input_ids"]
    assert only.prompt_tokens == sum(map(len, counted))


def test_a_model_that_scores_nothing_says_so(root: Path, held: Memory) -> None:
    (only,) = told(question(root, Passages(query="one", passages=("two",)), model="bert"), held)

    assert only.fault is not None
    assert only.fault.code == "wrong_kind_of_model"


class Scripted:
    """Stands for an engine and the shelf that it is on: says what is written, byte by byte."""

    longest, vocabulary = 4096, 300

    def __init__(self, folder: Path, script: str) -> None:
        self.tokenizer = FolderTokenizer(folder)
        self.script = script

    @contextmanager
    def asking(self, answerer: Answerer) -> Iterator[Ready]:
        yield Ready(self, None, self.tokenizer, end_tokens(self.tokenizer))

    def close(self) -> None:
        """Nothing is held."""

    def say(self, text: Text) -> None:
        for token in self.tokenizer.encode([self.script])[0].ids:
            if token in text.ends or not text.listener.said(Chosen(token=token)):
                break
        text.listener.ended(Finish.STOP)

    def cancel(self, text: Text) -> None:
        """It has ended."""


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALLS = """<tool_call>
{"name": "weather", "arguments": {"city": "Zürich"}}
</tool_call>
<tool_call>
{"name": "weather", "arguments": {"city": "Oslo"}}
</tool_call><|im_end|>"""
LISTED = """<tool_call>[
{"name": "weather", "arguments": {"city": "Zürich"}},
{"name": "weather", "arguments": {"city": "Oslo"}}
]</tool_call><|im_end|>"""


@pytest.fixture
def ask_scripted(root: Path, tmp_path: Path) -> Callable[[str, str], list[Piece]]:
    """Asks a model with a template, which says what is written."""

    def ask(template: str, script: str) -> list[Piece]:
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / "scripted")
        scripted = Scripted(tmp_path / "scripted", script)
        held = Memory(scripted, Ranked(LocalArtifacts(tmp_path), most=1))
        turns = (Turn(role="user", content="Is it warm in Zürich and Oslo?"),)
        return told(question(root, Chat(turns=turns, tools=(WEATHER,))), held)

    return ask


@pytest.mark.parametrize(
    ("template", "calls"), [(QWEN, CALLS), (THINKING, CALLS), (OPENED, CALLS), (LIST, LISTED)]
)
@pytest.mark.parametrize("words", ["", "<think>\nI look: {warm?}\n</think>\n\n", "Let me see.\n"])
def test_words_come_as_they_are_said_and_calls_as_calls(
    ask_scripted: Callable[[str, str], list[Piece]], template: str, calls: str, words: str
) -> None:
    found = ask_scripted(template, words + calls)

    assert said(found) == words
    assert [(call.name, call.arguments) for call in found[-1].calls] == [
        ("weather", '{"city": "Zürich"}'),
        ("weather", '{"city": "Oslo"}'),
    ]
    assert len({call.id for call in found[-1].calls}) == 2
    assert found[-1].finish is Finish.TOOL_CALLS
    # The words did not wait for the calls.
    assert "".join(piece.text for piece in found[:-1]) == words


def test_a_bare_call_is_a_call_where_it_begins_the_answer(
    ask_scripted: Callable[[str, str], list[Piece]],
) -> None:
    bare = '{"name": "weather", "parameters": {"city": "Oslo"}}'

    called = ask_scripted(LLAMA, f"{bare}<|im_end|>")
    told_of = ask_scripted(LLAMA, f"Such is a call: {bare}<|im_end|>")

    assert [call.arguments for call in called[-1].calls] == ['{"city": "Oslo"}']
    assert (said(called), said(told_of)) == ("", f"Such is a call: {bare}")
    assert told_of[-1].finish is Finish.STOP


def test_what_no_tool_is_called_by_is_said(
    ask_scripted: Callable[[str, str], list[Piece]],
) -> None:
    unknown = CALLS.replace("weather", "stocks")

    found = ask_scripted(QWEN, unknown)

    assert said(found) == unknown.removesuffix("<|im_end|>")
    assert (found[-1].calls, found[-1].finish) == ((), Finish.STOP)

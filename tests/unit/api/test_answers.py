"""Questions to models, and their answers, in OpenAI's shapes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import openai
import pytest

from tunesmith.domain.answers import (
    Chat,
    Finish,
    Piece,
    Prompts,
    Question,
    Spelled,
    Spelling,
)
from tunesmith.domain.models import WholeModel
from unit.api.conftest import BASE, World

TEXT: Any = {"type": "text", "text": "Be "}
ASK: list[Any] = [{"role": "user", "content": "Is it?"}]
YES, PART = Spelled(text="Yes", logprob=-0.5), Spelled(text="\ufffd", logprob=-2.0)
SPELT = Spelling(
    text="Yes",
    logprob=-0.5,
    likeliest=(YES, PART),
)


def two(question: Question) -> Iterable[Piece]:
    """Two answers that come by turns."""
    yield Piece(prompt_tokens=7)
    yield Piece(answer=1, text="No")
    yield Piece(answer=0, text="Yes")
    yield Piece(answer=0, text=", it is.", finish=Finish.LENGTH, tokens=4)
    yield Piece(answer=1, finish=Finish.STOP, tokens=1)


@pytest.fixture
def tuned(client: openai.OpenAI, world: World) -> str:
    """Name of a tuned model."""
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    world.run(job.id)
    name = world.finish(job.id).fine_tuned_model
    assert name is not None
    return name


def test_a_chat_is_asked_as_it_stands_and_answered_by_number(
    client: openai.OpenAI, world: World
) -> None:
    world.answering.answer = two

    answer = client.chat.completions.create(
        model=BASE,
        n=2,
        messages=[
            {
                "role": "developer",
                "content": [TEXT, TEXT | {"text": "short."}],
            },
            {"role": "user", "content": "Is it?"},
        ],
        stop="\n",
        temperature=0,
        seed=-1,
        max_tokens=9,
        logit_bias={"5": -100},
    )

    asked = world.answering.asked[0]
    assert isinstance(asked.asked, Chat)
    assert [(turn.role, turn.content) for turn in asked.asked.turns] == [
        ("system", "Be short."),
        ("user", "Is it?"),
    ]
    assert asked.answers == 2
    assert asked.answerer.base.name == BASE
    sampling = asked.sampling
    assert (sampling.stop, sampling.temperature, sampling.max_tokens) == (("\n",), 0, 9)
    assert sampling.seed is not None
    assert sampling.seed >= 0
    assert sampling.logit_bias == {5: -100}
    said = [(c.index, c.message.content, c.finish_reason) for c in answer.choices]
    assert said == [(0, "Yes, it is.", "length"), (1, "No", "stop")]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 5)
    assert answer.id.startswith("chatcmpl-")


def test_a_stream_says_the_same_and_counts_where_that_is_wanted(
    client: openai.OpenAI, world: World
) -> None:
    world.answering.answer = two

    chunks = list(
        client.chat.completions.create(
            model=BASE, messages=ASK, n=2, stream=True, stream_options={"include_usage": True}
        )
    )

    said = {0: "", 1: ""}
    ends = {}
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        said[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            ends[choice.index] = choice.finish_reason
    assert said == {0: "Yes, it is.", 1: "No"}
    assert ends == {0: "length", 1: "stop"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_counts_nothing_where_that_is_not_wanted(
    client: openai.OpenAI, world: World
) -> None:
    chunks = list(client.chat.completions.create(model=BASE, messages=ASK, stream=True))

    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_the_likelihood_of_tokens_is_told(client: openai.OpenAI, world: World) -> None:
    world.answering.answer = lambda _: (
        Piece(prompt_tokens=1),
        Piece(text="Yes", spelled=(SPELT,)),
        Piece(text="Yes", spelled=(SPELT,)),
        Piece(finish=Finish.STOP, tokens=2),
    )

    chat = client.chat.completions.create(model=BASE, messages=ASK, logprobs=True, top_logprobs=2)
    text = client.completions.create(model=BASE, prompt="Is it?", logprobs=2)
    streamed = list(client.completions.create(model=BASE, prompt="Is it?", logprobs=2, stream=True))

    assert [question.sampling.logprobs for question in world.answering.asked] == [2, 2, 2]
    logprobs = chat.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    first = logprobs.content[0]
    assert (first.token, first.logprob, first.bytes) == ("Yes", -0.5, [89, 101, 115])
    assert [each.bytes for each in first.top_logprobs] == [[89, 101, 115], None]
    assert text.choices[0].logprobs is not None
    assert text.choices[0].logprobs.text_offset == [0, 3]
    assert text.choices[0].logprobs.top_logprobs == [{"Yes": -0.5, "\ufffd": -2.0}] * 2
    offsets = [c.choices[0].logprobs.text_offset for c in streamed if c.choices[0].logprobs]
    assert offsets[:2] == [[0], [3]]


def test_texts_are_asked_as_text_or_as_tokens(client: openai.OpenAI, world: World) -> None:
    client.completions.create(model=BASE, prompt="a")
    client.completions.create(model=BASE, prompt=["a", "b"])
    client.completions.create(model=BASE, prompt=[1, 2])
    client.completions.create(model=BASE, prompt=[[1, 2], [3]])

    asked = [question.asked for question in world.answering.asked]
    assert [each.prompts for each in asked if isinstance(each, Prompts)] == [
        ("a",),
        ("a", "b"),
        ((1, 2),),
        ((1, 2), (3,)),
    ]
    assert {question.sampling.max_tokens for question in world.answering.asked} == {16}


def test_a_tool_that_was_called_is_named_where_its_answer_stands(
    client: openai.OpenAI, world: World
) -> None:
    called = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    messages: Any = [
        *ASK,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]

    client.chat.completions.create(model=BASE, messages=messages, tools=[tool])
    client.chat.completions.create(model=BASE, messages=messages, tools=[tool], tool_choice="none")

    asked = [q.asked for q in world.answering.asked if isinstance(q.asked, Chat)]
    assert (asked[0].turns[2].name, asked[0].turns[2].call_id) == ("weather", "call_1")
    assert asked[0].turns[1].calls[0].arguments == '{"city": "Oslo"}'
    assert [len(each.tools) for each in asked] == [1, 0]


def test_several_calls_behind_words_are_streamed_each_by_its_number(
    client: openai.OpenAI, world: World
) -> None:
    calls = [
        {"id": f"call_{city}", "name": "weather", "arguments": json.dumps({"city": city})}
        for city in ("Oslo", "Rome")
    ]
    world.answering.answer = lambda _: (
        Piece(prompt_tokens=1),
        Piece(text="Let me "),
        Piece(text="see."),
        Piece.model_validate({"calls": calls, "finish": "tool_calls", "tokens": 9}),
    )

    answer = client.chat.completions.create(model=BASE, messages=ASK)
    with client.chat.completions.stream(model=BASE, messages=ASK) as stream:
        told = stream.get_final_completion()

    for choice in (answer.choices[0], told.choices[0]):
        assert choice.message.content == "Let me see."
        assert choice.finish_reason == "tool_calls"
        assert [
            (each.id, each.type, each.function.name, each.function.arguments)
            for each in choice.message.tool_calls or ()
            if each.type == "function"
        ] == [
            ("call_Oslo", "function", "weather", '{"city": "Oslo"}'),
            ("call_Rome", "function", "weather", '{"city": "Rome"}'),
        ]


def test_calls_of_tools_are_told_whole_and_streamed(client: openai.OpenAI, world: World) -> None:
    call = {"id": "call_1", "name": "weather", "arguments": "{}"}
    world.answering.answer = lambda _: (
        Piece(prompt_tokens=1),
        Piece.model_validate({"calls": [call], "finish": "tool_calls", "tokens": 9}),
    )

    answer = client.chat.completions.create(model=BASE, messages=ASK)
    chunks = list(client.chat.completions.create(model=BASE, messages=ASK, stream=True))

    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].id == "call_1"
    told = [delta for c in chunks if (delta := c.choices[0].delta).tool_calls]
    assert told[0].tool_calls is not None
    assert told[0].tool_calls[0].function is not None
    assert told[0].tool_calls[0].function.name == "weather"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_tuned_models_and_checkpoints_are_found(
    client: openai.OpenAI, world: World, tuned: str
) -> None:
    job = next(iter(client.fine_tuning.jobs.list()))
    checkpoint = next(iter(client.fine_tuning.jobs.checkpoints.list(job.id)))

    for name in (tuned, checkpoint.fine_tuned_model_checkpoint):
        client.chat.completions.create(model=name, messages=ASK)

    answerers = [question.answerer for question in world.answering.asked]
    assert [each.adapter for each in answerers] == [
        f"output/{job.id}",
        world.store.tuned_model(checkpoint.fine_tuned_model_checkpoint).key,
    ]
    assert {each.base.name for each in answerers} == {BASE}
    assert {each.whole for each in answerers} == {None}


def test_a_model_all_of_whose_weights_were_tuned_stands_in_the_base_models_place(
    client: openai.OpenAI, world: World
) -> None:
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=file.id, extra_body={"tuning": {"adapter": {"kind": "full"}}}
    )
    world.run(job.id)
    name = world.finish(job.id).fine_tuned_model or ""

    client.chat.completions.create(model=name, messages=ASK)

    answerer = world.answering.asked[0].answerer
    assert answerer.adapter is None
    assert answerer.whole == WholeModel(name=name, key=f"output/{job.id}")

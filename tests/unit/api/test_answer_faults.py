"""What goes wrong between a question and its answer, and who goes away meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import openai
import pytest

from tunesmith.api.app import create_app
from tunesmith.domain.answers import (
    Fault,
    Piece,
    Question,
)
from unit.api.conftest import BASE, World

ASK: list[Any] = [{"role": "user", "content": "Is it?"}]


def faulty(
    fault: Fault, *, behind: tuple[Piece, ...] = ()
) -> Callable[[Question], Iterable[Piece]]:
    return lambda _: (*behind, Piece(fault=fault))


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
        ),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"store": True}, "store"),
        ({"n": 100}, "n"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"best": 1}, "best"),
    ],
)
def test_a_bad_question_is_refused_by_its_place(
    http: httpx.Client, changes: dict[str, Any], param: str
) -> None:
    answer = http.post("/v1/chat/completions", json={"model": BASE, "messages": ASK} | changes)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


def test_what_the_model_says_is_wrong_has_its_own_status(http: httpx.Client, world: World) -> None:
    body = {"model": BASE, "messages": ASK}
    busy = Fault(kind="busy", message="Full.", code="too_many_models", retry_after=7)
    expected = {
        400: Fault(
            kind="asked", message="Too long.", param="messages", code="context_length_exceeded"
        ),
        404: Fault(kind="model", message="It was deleted."),
        503: busy,
        500: Fault(kind="fault", message="Secret details."),
    }

    for status, fault in expected.items():
        world.answering.answer = faulty(fault)
        for streams in (False, True):
            answer = http.post("/v1/chat/completions", json=body | {"stream": streams})
            assert answer.status_code == status
            if fault is busy:
                assert answer.headers["Retry-After"] == "7"
            assert "Secret" not in answer.text


def test_a_cluster_that_is_not_there_is_told_with_a_time_to_come_again(
    http: httpx.Client, world: World
) -> None:
    world.answering.unavailable = True

    answer = http.post("/v1/chat/completions", json={"model": BASE, "messages": ASK})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "cluster_unavailable"
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("told", [(), (Piece(prompt_tokens=1), Piece(text="Yes"))])
def test_an_answer_without_its_end_is_no_answer(
    http: httpx.Client, world: World, told: tuple[Piece, ...]
) -> None:
    world.answering.answer = lambda _: told

    answer = http.post("/v1/chat/completions", json={"model": BASE, "messages": ASK})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "cluster_unavailable"


def test_a_stream_that_breaks_says_so_to_the_client(client: openai.OpenAI, world: World) -> None:
    told = (Piece(prompt_tokens=1), Piece(text="Yes"))
    world.answering.answer = faulty(Fault(kind="fault", message="It died."), behind=told)

    stream = client.chat.completions.create(model=BASE, messages=ASK, stream=True)

    with pytest.raises(openai.APIError, match="It died"):
        list(stream)


@pytest.mark.parametrize("streams", [False, True])
def test_the_model_stops_when_the_client_goes(world: World, streams: bool) -> None:
    waiting = asyncio.Event()

    async def ask(question: Question) -> Any:
        try:
            yield Piece(prompt_tokens=1)
            yield Piece(text="Yes")
            waiting.set()
            await asyncio.sleep(60)
        except (asyncio.CancelledError, GeneratorExit):
            world.answering.left += 1
            raise

    world.answering.ask = ask  # type: ignore[method-assign]
    app = create_app(world.services)
    body = json.dumps({"model": BASE, "messages": ASK, "stream": streams}).encode()

    async def talk() -> None:
        parts: list[Any] = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            if parts:
                return parts.pop()
            await waiting.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            """Nobody reads it."""

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        await asyncio.wait_for(app(scope, receive, send), 30)

    asyncio.run(talk())

    assert world.answering.left == 1

"""The processes that answer come and go, and who asks gets an answer all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import openai
import psutil
import pytest
from openai import OpenAI

from e2e.conftest import new_data
from e2e.service import Service, running, until

pytest.importorskip("transformers", reason="the training side is not installed")

IDLE = 3
SMOLLM = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Service]:
    data = new_data(tmp_path_factory.mktemp("leaving"), tiny_model)
    with running(data, {"TUNESMITH_ANSWERS_IDLE_SECONDS": str(IDLE)}) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> OpenAI:
    return service.client.with_options(timeout=180)


def ask(client: OpenAI) -> str:
    answer = client.completions.create(model="tiny", prompt="1 2", temperature=0, max_tokens=8)
    return answer.choices[0].text


def replicas(service: Service) -> list[psutil.Process]:
    found = []
    for process in service.ray_processes():
        # One may end between being listed and being looked at.
        with suppress(psutil.NoSuchProcess):
            if "ServeReplica" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_replicas_leave_when_nobody_asks_and_come_back_when_somebody_does(
    service: Service, client: OpenAI
) -> None:
    first = ask(client)
    assert len(replicas(service)) == 1

    until(lambda: not replicas(service), 60)

    assert ask(client) == first
    assert len(replicas(service)) == 1


def test_who_hears_a_replica_die_is_told_and_the_next_is_answered(
    service: Service, client: OpenAI
) -> None:
    first = ask(client)
    told = client.completions.create(
        model=SMOLLM, prompt="1, 2, 3, 4,", temperature=0, max_tokens=1000, stream=True
    )
    assert next(told).choices[0].text
    (replica,) = replicas(service)

    replica.kill()

    with pytest.raises(openai.APIError, match="went away while it answered"):
        list(told)
    assert ask(client) == first

"""What the form comes to: one request, and the same in a shell and in Python."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tunesmith.dashboard.choices import METHODS, request_of
from tunesmith.dashboard.request_text import as_curl, as_python
from tunesmith.protocol.jobs import CreateJob
from tunesmith.protocol.reading import read_shape

CHOSEN = {
    "model": "tiny",
    "training_file": "file-1",
    "suffix": 'it\'s-"odd"-ü',
    "seed": "7",
    "hyperparameters.n_epochs": "4",
    "hyperparameters.learning_rate_multiplier": "0.5",
    "tuning.adapter.rank": "8",
    "tuning.held_out_percent": "12.5",
    "tuning.bad_rows": "set_aside",
    "tuning.max_length": "",
}


class _Client:
    """Keeps what a program asks of it."""

    def __init__(self, **given: Any) -> None:
        self.address = given["base_url"]
        self.fine_tuning = self.jobs = self
        self.id = "ftjob-1"
        kept.append(self)

    def create(self, **request: Any) -> _Client:
        self.request = request
        return self


kept: list[_Client] = []


@pytest.mark.parametrize("method", METHODS)
def test_what_is_chosen_makes_a_request_that_the_api_takes(method: str) -> None:
    request = request_of(CHOSEN | {"method": method})

    asked = read_shape(CreateJob, request).to_request()

    assert (asked.n_epochs, asked.suffix) == (4, CHOSEN["suffix"])
    assert asked.method.value == method


def test_what_is_left_empty_is_left_out() -> None:
    request = request_of({"model": "tiny", "training_file": "file-1", "tuning.cpus": " "})

    assert request == {"model": "tiny", "training_file": "file-1"}


def test_what_is_no_number_goes_as_it_is() -> None:
    request = request_of({"model": "tiny", "hyperparameters.n_epochs": "many"})

    assert request["method"]["supervised"]["hyperparameters"] == {"n_epochs": "many"}


def test_curl_sends_the_request() -> None:
    request = request_of(CHOSEN)

    words = shlex.split(as_curl(request, address="http://there:1").replace("\\\n", ""))

    assert words[:2] == ["curl", "http://there:1/v1/fine_tuning/jobs"]
    assert json.loads(words[words.index("-d") + 1]) == request


def test_python_sends_the_same_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_KEY", "secret")
    monkeypatch.setattr("openai.OpenAI", _Client)
    request = request_of(CHOSEN | {"method": "dpo"})

    exec(as_python(request, address="http://there:1"), {})

    sent = dict(kept[-1].request)
    assert kept[-1].address == "http://there:1/v1"
    assert {**sent.pop("extra_body"), **sent} == request

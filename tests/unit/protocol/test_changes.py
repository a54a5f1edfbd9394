"""A failure's change wins over whatever the request has said, and only what it names changes."""

from __future__ import annotations

from typing import Any

import pytest

from merging import merged
from tunesmith.domain.changes import Change
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobError, JobStatus
from tunesmith.domain.spec import (
    EarlyStopping,
    JobRequest,
    LoraSpec,
    Method,
    Policy,
    Precision,
    RankingSpec,
    WholeLayer,
)
from tunesmith.protocol.jobs import CreateJob, JobObject
from tunesmith.protocol.opea import OpeaJobObject
from tunesmith.protocol.reading import read_shape

STOPPING = {"held_out_percent": 10, "early_stopping": {"patience": 2}}
RANKS = {"objective": "rerank", "ranking": {"query_max_len": 64, "temperature": 1}}


def read(body: dict[str, Any]) -> CreateJob:
    return read_shape(CreateJob, {"model": "m", "training_file": "file-1"} | body)


def failed(request: JobRequest, change: Change | None, dialect: Dialect = Dialect.OPENAI) -> Job:
    return Job(
        id="ftjob-1",
        dialect=dialect,
        created_at=1,
        status=JobStatus.FAILED,
        model="m",
        training_file="file-1",
        training_filename="train.jsonl",
        request=request,
        error=JobError(code=FailureCode.OUT_OF_MEMORY, message="Why.", change=change),
        seed=1,
        organization="org",
    )


def changed(body: dict[str, Any], change: Change) -> CreateJob:
    """Send `body` again with `change` as the client of its failed job sees it."""
    error = JobObject.to_wire(failed(read(body).to_request(), change)).error
    assert error is not None
    assert error.change is not None
    return read(merged(body, error.change))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tuning": None, "method": None, "hyperparameters": None},
        {"tuning": {"learning_rate": 0.5}},
        {"hyperparameters": {"learning_rate_multiplier": 2, "n_epochs": 3}},
        {"hyperparameters": {"learning_rate_multiplier": "auto"}},
        {
            "method": {
                "type": "supervised",
                "supervised": {"hyperparameters": {"learning_rate_multiplier": 2, "batch_size": 4}},
            }
        },
        {
            "method": {
                "type": "supervised",
                "supervised": {"hyperparameters": {"learning_rate_multiplier": 2}},
            },
            "hyperparameters": {"learning_rate_multiplier": 2},
        },
        {
            "method": {
                "type": "dpo",
                "dpo": {"hyperparameters": {"learning_rate_multiplier": 2, "beta": 1}},
            }
        },
        {"method": {"type": "dpo"}},
        {
            "tuning": {"objective": "pretraining"},
            "hyperparameters": {"learning_rate_multiplier": 2},
        },
    ],
)
def test_a_learning_rate_wins_wherever_one_was_given(body: dict[str, Any]) -> None:
    before = read(body).to_request()

    after = changed(body, {"learning_rate": 1e-5}).to_request()

    assert after == before.model_copy(
        update={"learning_rate": 1e-5, "learning_rate_multiplier": None}
    )


@pytest.mark.parametrize(
    ("tuning", "change", "update"),
    [
        ({"max_length": 64}, {"max_length": 32}, {"max_length": 32}),
        (None, {"max_length": 512}, {"max_length": 512}),
        (
            {"over_length": "refuse"},
            {"max_length": 9, "over_length": "cut"},
            {"max_length": 9, "over_length": Policy.CUT},
        ),
        ({}, {"bad_rows": "set_aside"}, {"bad_rows": Policy.SET_ASIDE}),
        ({}, {"gradient_checkpointing": True}, {"gradient_checkpointing": True}),
        ({"adapter": {"kind": "full"}}, {"lora": {}}, {"lora": LoraSpec()}),
        (
            {"adapter": {"kind": "qlora", "rank": 4}},
            {"lora": {}},
            {"lora": LoraSpec(rank=4, alpha=8)},
        ),
        (
            {"adapter": {"kind": "dora", "rank": 4}},
            {"lora.quantized": True},
            {"lora": LoraSpec(rank=4, alpha=8, quantized=True)},
        ),
        (
            {"adapter": {"rank": 4, "targets": ["up"]}},
            {"lora.targets": None},
            {"lora": LoraSpec(rank=4, alpha=8)},
        ),
        (
            {"adapter": {"also_train": ["embeddings", "head"]}},
            {"lora.also_train": ["embeddings"]},
            {"lora": LoraSpec(also_train=(WholeLayer.EMBEDDINGS,))},
        ),
        ({"precision": "fp32"}, {"precision": "bf16"}, {"precision": Precision.BF16}),
        ({"cpus": 64}, {"cpus": None}, {"cpus": None}),
        (STOPPING, {"early_stopping": None}, {"early_stopping": None}),
        (
            RANKS,
            {"ranking.query_max_len": 8, "ranking.passage_max_len": 9},
            {"ranking": RankingSpec(query_max_len=8, passage_max_len=9, temperature=1)},
        ),
    ],
)
def test_each_option_that_a_failure_can_change(
    tuning: dict[str, Any] | None, change: Change, update: dict[str, Any]
) -> None:
    before = read({"tuning": tuning}).to_request()

    after = changed({"tuning": tuning}, change).to_request()

    assert after == before.model_copy(update=update)
    assert after != before


def test_a_share_of_the_training_file_takes_the_place_of_the_validation_file() -> None:
    body = {"validation_file": "file-2", "tuning": {"early_stopping": {}, "evaluate_every": 2}}

    after = changed(body, {"validation_file": None, "held_out_percent": 10.0})

    assert after.validation_file is None
    assert after.to_request().held_out_percent == 10
    assert after.to_request().early_stopping == EarlyStopping()


def test_a_failure_that_no_request_mends_shows_no_change() -> None:
    error = JobObject.to_wire(failed(JobRequest(), None)).error
    assert error is not None
    assert error.model_dump()["change"] is None


@pytest.mark.parametrize("method", [Method.SUPERVISED, Method.RERANK])
def test_opeas_error_keeps_its_three_keys(method: Method) -> None:
    job = failed(JobRequest(method=method), {"max_length": 64}, Dialect.OPEA)
    error = OpeaJobObject.to_wire(job).model_dump()["error"]
    assert list(error) == ["code", "message", "param"]

"""Our own options: each is honoured or refused by name, and shown with what it became."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.resolved import ResolvedHyperparameters, ResolvedTuning
from tunesmith.domain.spec import (
    EarlyStopping,
    JobRequest,
    LoraSpec,
    Method,
    Optimizer,
    Policy,
    Precision,
    RankingSpec,
    WholeLayer,
)
from tunesmith.domain.verdicts import Gate, VerdictSpec
from tunesmith.protocol.jobs import CreateJob, JobObject
from tunesmith.protocol.ranking import RankingRequest
from tunesmith.protocol.reading import read_shape
from tunesmith.protocol.tuning import TuningObject, TuningRequest


def create(tuning: dict[str, Any] | None, **keys: Any) -> JobRequest:
    body = {"model": "m", "training_file": "file-1", "tuning": tuning}
    return read_shape(CreateJob, body | keys).to_request()


def refusal(tuning: dict[str, Any], **keys: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as refused:
        create(tuning, **keys)
    return refused.value


def job(request: JobRequest) -> Job:
    return Job(
        id="ftjob-1",
        dialect=Dialect.OPENAI,
        created_at=1,
        status=JobStatus.QUEUED,
        model="m",
        training_file="file-1",
        training_filename="a.jsonl",
        request=request,
        seed=7,
        organization="acme",
    )


def test_without_options_a_request_has_the_domains_defaults() -> None:
    assert create(None) == create({}) == JobRequest()


HELD_OUT = {"held_out_percent": 10}


@pytest.mark.parametrize(
    ("tuning", "changed"),
    [
        ({"adapter": {"rank": 64}}, {"lora": LoraSpec(rank=64, alpha=128)}),
        ({"adapter": {"alpha": 8, "dropout": 0.5}}, {"lora": LoraSpec(alpha=8, dropout=0.5)}),
        ({"adapter": {"kind": "rslora"}}, {"lora": LoraSpec(rslora=True)}),
        ({"adapter": {"kind": "dora"}}, {"lora": LoraSpec(dora=True)}),
        ({"adapter": {"kind": "qlora"}}, {"lora": LoraSpec(quantized=True)}),
        ({"adapter": {"kind": "full"}}, {"lora": None}),
        ({"adapter": {"targets": ["q_proj"]}}, {"lora": LoraSpec(targets=("q_proj",))}),
        ({"adapter": {"also_train": []}}, {}),
        (
            {"adapter": {"also_train": ["head", "embeddings"]}},
            {"lora": LoraSpec(also_train=(WholeLayer.EMBEDDINGS, WholeLayer.HEAD))},
        ),
        ({"max_length": 64}, {"max_length": 64}),
        ({"over_length": "set_aside"}, {"over_length": Policy.SET_ASIDE}),
        (
            {"bad_rows": "set_aside", "bad_rows_share": 0.5},
            {"bad_rows": Policy.SET_ASIDE, "bad_rows_share": 0.5},
        ),
        ({"learning_rate": 1e-3}, {"learning_rate": 1e-3}),
        ({"schedule": "cosine"}, {"schedule": "cosine"}),
        ({"warmup_ratio": 0}, {"warmup_ratio": 0}),
        ({"weight_decay": 0.1}, {"weight_decay": 0.1}),
        ({"max_grad_norm": 2}, {"max_grad_norm": 2}),
        ({"gradient_checkpointing": True}, {"gradient_checkpointing": True}),
        ({"precision": "fp32"}, {"precision": Precision.FP32}),
        ({"max_steps": 5}, {"max_steps": 5}),
        ({"max_seconds": 60}, {"max_seconds": 60}),
        ({"optimizer": "adafactor"}, {"optimizer": Optimizer.ADAFACTOR}),
        ({"max_examples": 5}, {"max_examples": 5}),
        (HELD_OUT, HELD_OUT),
        (HELD_OUT | {"evaluate_every": 3}, HELD_OUT | {"evaluate_every": 3}),
        (
            HELD_OUT | {"early_stopping": {"patience": 2}},
            HELD_OUT | {"early_stopping": EarlyStopping(patience=2)},
        ),
        (HELD_OUT | {"gate": "better"}, HELD_OUT | {"gate": Gate.BETTER}),
        (HELD_OUT | {"gate": "not_worse"}, HELD_OUT | {"gate": Gate.NOT_WORSE}),
        (
            HELD_OUT | {"verdict": {"answers": 9}},
            HELD_OUT | {"verdict": VerdictSpec(answers=9)},
        ),
        ({"checkpoint_every": 3}, {"checkpoint_every": 3}),
        ({"keep_checkpoints": 3}, {"keep_checkpoints": 3}),
        ({"cpus": 2}, {"cpus": 2}),
        ({"workers": 2}, {"workers": 2}),
        ({"workers": 4, "min_workers": 2}, {"workers": 4, "min_workers": 2}),
        ({"device": "cpu", "workers": 1, "packing": False}, {}),
        ({"device": "hpu"}, {"device": Device.HPU}),
        ({"device": None}, {}),
    ],
)
def test_an_option_is_honoured_and_changes_nothing_else(
    tuning: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert create(tuning) == JobRequest().model_copy(update=changed)


def test_what_is_trained_on_is_the_services_own_where_the_request_does_not_say_it() -> None:
    body = {"model": "m", "training_file": "file-1"}
    left_open = read_shape(CreateJob, body).to_request(device=Device.CUDA)
    asked = read_shape(CreateJob, body | {"tuning": {"device": "hpu"}})

    assert left_open.device is Device.CUDA
    assert asked.to_request(device=Device.CUDA).device is Device.HPU


@pytest.mark.parametrize(
    ("tuning", "param", "found"),
    [
        ({"adapter": {"rank": 0}}, "adapter.rank", "at least 1"),
        (
            {"adapter": {"kind": "ia3"}},
            "adapter.kind",
            "'lora', 'rslora', 'dora', 'qlora' or 'full'",
        ),
        ({"adapter": {"rnak": 8}}, "adapter.rnak", "did you mean 'rank'?"),
        ({"adapter": {"kind": "full", "rank": 8}}, "adapter.rank", "there is no adapter"),
        (
            {"adapter": {"kind": "full", "also_train": ["head"]}},
            "adapter.also_train",
            "there is no adapter",
        ),
        ({"adapter": {"also_train": ["haed"]}}, "adapter.also_train.0", "'embeddings' or 'head'"),
        (
            {"adapter": {"also_train": ["head"]}, "objective": "embedding"},
            "adapter.also_train",
            "has no head",
        ),
        ({"ranking": {}}, "ranking", "queries with passages"),
        ({"ranking": {"temperature": 0}}, "ranking.temperature", "at least 0.001"),
        ({"ranking": {"pooling": "max"}}, "ranking.pooling", "'cls' or 'mean'"),
        ({"ranking": {"query_max_len": 7}}, "ranking.query_max_len", "at least 8"),
        ({"max_lenght": 8}, "max_lenght", "did you mean 'max_length'?"),
        ({"zzz": 8}, "zzz", "no known key; remove it"),
        ({"max_length": 7}, "max_length", "at least 8"),
        ({"max_seconds": 0}, "max_seconds", "at least 1"),
        ({"optimizer": "sgd"}, "optimizer", "'adamw' or 'adafactor'"),
        ({"bad_rows_share": 0.5}, "bad_rows_share", "'tuning.bad_rows'"),
        ({"early_stopping": {}}, "early_stopping", "needs held-out examples"),
        ({"evaluate_every": 3}, "evaluate_every", "needs held-out examples"),
        ({"gate": "better"}, "gate", "needs held-out examples"),
        ({"gate": "best"}, "gate", "'better' or 'not_worse'"),
        ({"verdict": {"answers": 3}}, "verdict.answers", "needs held-out examples"),
        (
            HELD_OUT | {"verdict": {"answers": 3}, "objective": "pretraining"},
            "verdict.answers",
            "'supervised' and 'reasoning'",
        ),
        ({"verdict": {"answers": 257}}, "verdict.answers", "at most 256"),
        ({"device": "tpu"}, "device", "'cpu', 'cuda', 'hpu' or 'xpu'"),
        ({"workers": 0}, "workers", "at least 1"),
        ({"workers": 257}, "workers", "at most 256"),
        ({"workers": 2, "min_workers": 3}, "min_workers", "more than 'tuning.workers', which is 2"),
        ({"packing": True}, "packing", "leave it out"),
        ({"learning_rate": 2}, "learning_rate", "at most 1"),
    ],
)
def test_what_cannot_be_honoured_is_refused_at_its_place(
    tuning: dict[str, Any], param: str, found: str
) -> None:
    error = refusal(tuning)
    assert error.param == f"tuning.{param}"
    assert found in error.message


def test_options_that_contradict_the_rest_of_the_request_are_refused() -> None:
    both = refusal({"learning_rate": 1e-4}, hyperparameters={"learning_rate_multiplier": 2})
    assert both.param == "tuning.learning_rate"
    assert "'learning_rate_multiplier'" in both.message
    held_out = refusal(HELD_OUT, validation_file="file-2")
    assert held_out.param == "tuning.held_out_percent"


def test_early_stopping_may_rest_on_a_validation_file() -> None:
    assert create({"early_stopping": {}}, validation_file="file-2").early_stopping is not None


def test_a_job_shows_each_option_that_can_be_asked_for() -> None:
    assert list(TuningObject.model_fields) == list(TuningRequest.model_fields)


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "qlora", "full"])
def test_a_job_shows_the_kind_that_was_asked_for(kind: str) -> None:
    assert JobObject.to_wire(job(create({"adapter": {"kind": kind}}))).tuning.adapter.kind == kind


def test_what_was_left_open_is_null_until_it_is_known() -> None:
    fresh = job(create({"adapter": {"kind": "dora", "targets": ["q"]}, "max_steps": 9}))
    shown = JobObject.to_wire(fresh).tuning
    assert (shown.adapter.kind, shown.adapter.targets) == ("dora", ["q"])
    assert (shown.max_steps, shown.learning_rate, shown.max_length, shown.cpus) == (
        *(9, None),
        *(None, None),
    )
    launched = ResolvedTuning(
        max_length=1024,
        warmup_ratio=0.05,
        max_grad_norm=1.0,
        evaluate_every=2,
        checkpoint_every=5,
        keep_checkpoints=3,
        cpus=8,
    )
    resolved = ResolvedHyperparameters(
        examples=9, n_epochs=3, batch_size=4, learning_rate_multiplier=2.0, learning_rate=1e-3
    )
    known = fresh.model_copy(update={"tuning": launched, "resolved": resolved})
    shown = JobObject.to_wire(known).tuning
    assert launched.model_dump().items() <= shown.model_dump().items()
    assert (shown.learning_rate, shown.max_steps) == (1e-3, 9)


def test_a_job_shows_that_it_has_no_adapter_and_how_it_learns_from_passages() -> None:
    asked = JobRequest(method=Method.EMBEDDING, lora=None)
    shown = JobObject.to_wire(job(asked)).tuning

    assert shown.adapter.model_dump() == {
        "kind": "full",
        **dict.fromkeys(("rank", "alpha", "dropout", "targets", "also_train")),
    }
    assert shown.ranking is not None
    assert shown.ranking.to_spec() == RankingSpec()
    assert JobObject.to_wire(job(JobRequest())).tuning.ranking is None


def test_a_job_that_starts_from_an_adapter_cannot_train_all_weights() -> None:
    body = {"model": "m", "training_file": "file-1", "tuning": {"adapter": {"kind": "full"}}}
    with pytest.raises(InvalidRequestError) as refused:
        read_shape(CreateJob, body).to_request(LoraSpec())
    assert refused.value.param == "tuning.adapter.kind"


def test_what_a_request_says_of_passages_and_what_the_domain_has_are_the_same() -> None:
    assert RankingRequest().to_spec() == RankingSpec()
    assert list(RankingRequest.model_fields) == list(RankingSpec.model_fields)


@given(
    rank=st.integers(1, 1024),
    alpha=st.none() | st.floats(1e-300, 1e6),
    share=st.floats(0.001, 0.999),
    percent=st.floats(0, 99.9),
    rate=st.none() | st.floats(1e-8, 1),
)
def test_what_the_wire_takes_the_domain_takes(
    *, rank: int, alpha: float | None, share: float, percent: float, rate: float | None
) -> None:
    asked = create(
        {
            "adapter": {"rank": rank, "alpha": alpha},
            "bad_rows": "set_aside",
            "bad_rows_share": share,
            "held_out_percent": percent,
            "learning_rate": rate,
        }
    )
    assert JobRequest.model_validate_json(asked.model_dump_json()) == asked

"""OPEA's tasks `embedding` and `rerank`, and full fine-tuning: each key reaches the job."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import JobRequest, LoraSpec, Method, RankingSpec
from tunesmith.protocol.opea_create import OpeaCreateJob
from tunesmith.protocol.reading import read_shape

TASKS = {"embedding": Method.EMBEDDING, "rerank": Method.RERANK}


def request(
    task: str, *, source: LoraSpec | None = None, general: Any = None, **sections: Any
) -> JobRequest:
    body = {"model": "m", "training_file": "a.jsonl", "General": {"task": task} | (general or {})}
    return read_shape(OpeaCreateJob, body | sections).to_request(source)


@pytest.mark.parametrize(("task", "method"), TASKS.items())
def test_a_task_is_the_method_of_that_name_with_opeas_defaults(task: str, method: Method) -> None:
    asked = request(task)

    assert (asked.method, asked.ranking, asked.beta) == (method, RankingSpec(), None)


@pytest.mark.parametrize(
    ("section", "value", "changed"),
    [
        ("Dataset", {"train_group_size": 4}, {"group_size": 4}),
        ("Dataset", {"query_max_len": 32}, {"query_max_len": 32}),
        ("Dataset", {"passage_max_len": 64}, {"passage_max_len": 64}),
        ("Dataset", {"query_instruction_for_retrieval": "Q: "}, {"query_instruction": "Q: "}),
        ("Dataset", {"passage_instruction_for_retrieval": "P: "}, {"passage_instruction": "P: "}),
        ("embedding", {"temperature": 0.5}, {"temperature": 0.5}),
        ("embedding", {"sentence_pooling_method": "mean"}, {"pooling": "mean"}),
        ("embedding", {"normalized": False}, {"normalized": False}),
        ("embedding", {"use_inbatch_neg": False}, {"in_batch_negatives": False}),
        ("embedding", {"negatives_cross_device": True}, {}),
    ],
)
def test_a_key_is_honoured_and_changes_nothing_else(
    section: str, value: dict[str, Any], changed: dict[str, Any]
) -> None:
    inside: dict[str, Any] = {"Training": {"embedding_training_config": value}}
    asked = request("embedding", **(inside if section == "embedding" else {section: value}))

    assert asked.ranking == RankingSpec().model_copy(update=changed)
    assert asked.model_copy(update={"ranking": RankingSpec()}) == request("embedding")


@pytest.mark.parametrize("task", TASKS)
def test_all_weights_are_trained_as_in_opea_unless_an_adapter_is_asked_for(task: str) -> None:
    assert request(task).lora is None
    assert request(task, general={"lora_config": None}).lora is None
    assert request(task, general={"lora_config": {"r": 4}}).lora == LoraSpec(rank=4, dropout=0.1)


@pytest.mark.parametrize("task", TASKS)
def test_a_job_that_starts_from_an_adapter_keeps_its_shape(task: str) -> None:
    source = LoraSpec(rank=4, targets=("q",))

    assert request(task, source=source).lora == source.model_copy(update={"dropout": 0.0})


@pytest.mark.parametrize("task", ["instruction_tuning", "dpo", *TASKS])
def test_null_for_the_adapter_trains_all_weights_whatever_the_task(task: str) -> None:
    assert request(task, general={"lora_config": None}).lora is None
    with pytest.raises(InvalidRequestError) as refused:
        request(task, general={"lora_config": None}, source=LoraSpec())
    assert refused.value.param == "General.lora_config"


@pytest.mark.parametrize(
    ("task", "config", "taken"),
    [
        ("embedding", {}, True),
        ("embedding", {"use_inbatch_neg": False}, False),
        ("rerank", {}, False),
    ],
)
def test_a_group_of_one_is_refused_where_there_is_nothing_to_compare_with(
    task: str, config: dict[str, object], *, taken: bool
) -> None:
    sections: dict[str, Any] = {
        "Dataset": {"train_group_size": 1},
        "Training": {"embedding_training_config": config},
    }
    if taken:
        assert request(task, **sections).ranking is not None
        return
    with pytest.raises(InvalidRequestError, match="at least 2") as refused:
        request(task, **sections)
    assert refused.value.param == "Dataset.train_group_size"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("Dataset", "train_group_size", 0),
        ("Dataset", "query_max_len", 4),
        ("Dataset", "passage_max_len", 4),
        ("Dataset", "query_instruction_for_retrieval", "x" * 1001),
    ],
)
def test_a_wrong_value_is_refused_at_its_path(section: str, key: str, value: Any) -> None:
    wrong: dict[str, Any] = {section: {key: value}}
    with pytest.raises(InvalidRequestError) as refused:
        request("embedding", **wrong)
    assert refused.value.param == f"{section}.{key}"

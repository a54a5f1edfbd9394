"""Every key of OPEA's request is honoured, refused by name, or documented as without effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import JobRequest, Method, Policy
from tunesmith.protocol.opea_create import OpeaCreateJob
from tunesmith.protocol.reading import read_shape
from tunesmith.protocol.wire import Wire

HONOURED: dict[str, object] = {
    "hyperparameters.n_epochs": 3,
    "hyperparameters.batch_size": 8,
    "hyperparameters.learning_rate_multiplier": 1e-4,
    "suffix": "blue",
    "integrations": [{"type": "wandb", "wandb": {"project": "p"}}],
    "General.report_to": "tensorboard",
    "General.save_strategy": "steps",
    "General.lora_config.r": 16,
    "General.lora_config.lora_alpha": 64,
    "General.lora_config.lora_dropout": 0.5,
    "General.lora_config.target_modules": ["q_proj"],
    "Dataset.truncation": False,
    "General.enable_gradient_checkpointing": True,
    "General.task": "dpo",
    "Dataset.validation_split_percentage": 10,
    "Dataset.max_length": 64,
    "Dataset.max_seq_length": 64,
    "Dataset.max_train_samples": 9,
    "Training.batch_size": 8,
    "Training.epochs": 3,
    "Training.max_train_steps": 7,
    "Training.learning_rate": 1e-3,
    "Training.lr_scheduler": "cosine",
    "Training.weight_decay": 0.1,
    "Training.mixed_precision": "bf16",
    "Training.gradient_accumulation_steps": 4,
    "Training.num_training_workers": 2,
    "Training.device": "hpu",
    "Training.resources_per_worker.CPU": 2,
}
"""Keys that change what is asked for, with a value that does."""

HONOURED_BESIDE = {
    "model": "api/test_opea_dialect.py",
    "training_file": "api/test_opea_dialect.py",
    "validation_file": "protocol/test_opea_create.py",
    "Dataset.validation_file": "protocol/test_opea_create.py",
    "seed": "api/test_opea_dialect.py",
    "General.resume_from_checkpoint": "api/test_tuning_on.py",
    "Training.dpo_beta": "test_dpo_takes_its_beta_and_only_dpo_does",
    "Dataset.block_size": "test_pretraining_takes_the_windows_length_from_either_key",
    "Dataset.reasoning_dataset_keys": "test_reasoning_reads_its_own_columns_and_no_others",
}
"""Keys that are honoured elsewhere than in the request, with what tests them."""

REFUSED: dict[str, object] = {
    "General.tokenizer_name": "x",
    "General.gaudi_config_name": "x",
    "General.config.trust_remote_code": True,
    "General.config.token": "x",
    "General.lora_config.task_type": "SEQ_CLS",
    "General.xtune_config.tool": "clip",
    "General.xtune_config.trainer": "x",
    "General.xtune_config.model": "x",
    "General.xtune_config.config_file": "x",
    "General.xtune_config.dataset": "x",
    "General.xtune_config.dataset_root": "x",
    "General.xtune_config.device": "x",
    "Dataset.max_source_length": 100,
    "Dataset.truncation_side": "left",
    "Dataset.mask_input": False,
    "Dataset.mask_response": False,
    "Dataset.data_preprocess_type": "x",
    "Dataset.max_eval_samples": 3,
    "Training.optimizer": "sgd",
    "Training.resources_per_worker.GPU": 2,
    "Training.resources_per_worker.HPU": 2,
    "Training.accelerate_mode": "FSDP",
    "Training.deepspeed_config_file": "x",
}
"""Keys whose values other than the default are refused, with such a value."""

WITHOUT_EFFECT: dict[str, object] = {
    "General.base_model": "x",
    "General.gpt_base_model": True,
    "General.output_dir": "/x",
    "Dataset.train_file": "x",
    "Dataset.group": False,
    "Dataset.shuffle": True,
    "Dataset.max_prompt_length": 64,
    "Dataset.padding_side": "left",
    "Dataset.padding": False,
    "Dataset.pad_to_max": True,
    "Dataset.train_group_size": 2,
    "Dataset.query_max_len": 9,
    "Dataset.passage_max_len": 9,
    "Dataset.query_instruction_for_retrieval": "x",
    "Dataset.passage_instruction_for_retrieval": "x",
    "Training.hpu_execution_mode": "eager",
    "Training.logging_steps": 1,
    "Training.embedding_training_config.negatives_cross_device": True,
    "Training.embedding_training_config.temperature": 1.0,
    "Training.embedding_training_config.sentence_pooling_method": "mean",
    "Training.embedding_training_config.normalized": False,
    "Training.embedding_training_config.use_inbatch_neg": False,
}
"""Keys that change nothing, with another value than the default."""


def leaves(shape: type[Wire], place: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the path of each key that holds no object of ours, and its field."""
    for name, field in shape.model_fields.items():
        path = f"{place}{name}"
        inner = next((part for part in parts(field.annotation) if is_shape(part)), None)
        if inner is None or path == "integrations":
            yield path, field
        else:
            yield from leaves(inner, f"{path}.")


def parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from parts(part)


def is_shape(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Wire)


FIELDS = dict(leaves(OpeaCreateJob))


def request(path: str | None = None, value: object = None, **sections: Any) -> JobRequest:
    body: dict[str, Any] = {"model": "m", "training_file": "a.json"} | sections
    if path is not None:
        *places, key = path.split(".")
        target = body
        for place in places:
            target = target.setdefault(place, {})
        target[key] = value
    return read_shape(OpeaCreateJob, body).to_request()


def test_each_key_is_either_honoured_or_refused_or_without_effect() -> None:
    kinds = [*HONOURED, *HONOURED_BESIDE, *REFUSED, *WITHOUT_EFFECT]
    assert sorted(FIELDS) == sorted(kinds)


@pytest.mark.parametrize(("path", "value"), HONOURED.items())
def test_a_key_that_is_honoured_changes_what_is_asked_for(path: str, value: object) -> None:
    assert request(path, value) != request()


@pytest.mark.parametrize(("path", "value"), REFUSED.items())
def test_a_key_that_cannot_be_honoured_is_refused_by_its_name(path: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        request(path, value)
    assert refused.value.param == path
    assert f"'{path}' does not support" in refused.value.message


@pytest.mark.parametrize(("path", "value"), WITHOUT_EFFECT.items())
@pytest.mark.parametrize("task", ["instruction_tuning", "dpo", "reasoning", "pretraining"])
def test_a_key_without_effect_is_accepted_and_says_so(path: str, value: object, task: str) -> None:
    general = {"task": task}
    assert request(path, value, General=dict(general)) == request(General=general)
    assert "o effect" in (FIELDS[path].description or "")


def test_dpo_takes_its_beta_and_only_dpo_does() -> None:
    assert request("Training.dpo_beta", 0.5, General={"task": "dpo"}).beta == 0.5
    assert request(General={"task": "dpo"}).beta == 0.1
    assert request("Training.dpo_beta", 0.5) == request()


@pytest.mark.parametrize(
    ("task", "method"),
    [
        ("instruction_tuning", Method.SUPERVISED),
        ("dpo", Method.DPO),
        ("reasoning", Method.REASONING),
        ("pretraining", Method.PRETRAINING),
    ],
)
def test_a_task_says_what_is_learnt(task: str, method: Method) -> None:
    asked = request(General={"task": task})
    assert asked.method is method
    assert asked.lora == request().lora, "it trains an adapter"
    assert (asked.preference, asked.think) == (None, None)


PRETRAINING = {"task": "pretraining"}


@pytest.mark.parametrize(
    ("dataset", "max_length"),
    [
        ({}, 512),
        ({"block_size": 64}, 64),
        ({"max_length": 32}, 32),
        ({"max_seq_length": 32}, 32),
        ({"block_size": 32, "max_length": 32}, 32),
    ],
)
def test_pretraining_takes_the_windows_length_from_either_key(
    dataset: dict[str, int], max_length: int
) -> None:
    assert request(General=PRETRAINING, Dataset=dataset).max_length == max_length


def test_two_lengths_of_windows_are_refused_and_other_tasks_have_none() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        request(General=PRETRAINING, Dataset={"block_size": 64, "max_length": 32})
    assert refused.value.param == "Dataset.block_size"
    for task in ("instruction_tuning", "dpo", "reasoning"):
        general = {"task": task}
        assert request("Dataset.block_size", 64, General=general) == request(General=general)


def test_pretraining_refuses_no_long_text_since_nothing_of_it_is_cut_off() -> None:
    untruncated = {"truncation": False}
    assert request(General=PRETRAINING, Dataset=untruncated).over_length is Policy.CUT
    assert request(Dataset=untruncated).over_length is Policy.REFUSE


def test_reasoning_reads_its_own_columns_and_no_others() -> None:
    reasoning = {"task": "reasoning"}
    own = {"reasoning_dataset_keys": ["Question", "Complex_CoT", "Response"]}
    assert request(General=reasoning, Dataset=own) == request(General=reasoning)
    for keys in (["q", "t", "a"], ["Question", "Response"], []):
        others = {"reasoning_dataset_keys": keys}
        with pytest.raises(InvalidRequestError) as refused:
            request(General=reasoning, Dataset=others)
        assert refused.value.param == "Dataset.reasoning_dataset_keys"
        assert request(Dataset=others) == request(), "it is for reasoning alone"

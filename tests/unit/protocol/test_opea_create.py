"""OPEA's request: each key is there with OPEA's default, and is honoured or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.ids import new_file_id
from tunesmith.domain.spec import JobRequest, LoraSpec, Optimizer, Policy, Precision
from tunesmith.domain.tracking import TensorboardIntegration
from tunesmith.protocol.dialects import read_create
from tunesmith.protocol.opea_create import OpeaCreateJob
from tunesmith.protocol.reading import read_shape

MINIMAL = {"model": "m", "training_file": "alpaca_data.json"}
FILE_ID = new_file_id()

GENERAL = {
    "base_model": None,
    "tokenizer_name": None,
    "gaudi_config_name": None,
    "gpt_base_model": False,
    "output_dir": "./tmp",
    "report_to": "none",
    "resume_from_checkpoint": None,
    "save_strategy": "no",
    "config": {"trust_remote_code": False, "token": None},
    "lora_config": {
        "task_type": "CAUSAL_LM",
        "r": 8,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "target_modules": None,
    },
    "xtune_config": {
        "tool": "",
        "trainer": "",
        "model": "",
        "config_file": "",
        "dataset": "",
        "dataset_root": "",
        "device": "",
    },
    "enable_gradient_checkpointing": False,
    "task": "instruction_tuning",
}
DATASET = {
    "train_file": None,
    "validation_file": None,
    "validation_split_percentage": 5,
    "max_length": 512,
    "group": True,
    "block_size": 512,
    "shuffle": False,
    "max_source_length": 384,
    "max_prompt_length": 512,
    "padding_side": "right",
    "truncation_side": "right",
    "max_seq_length": 512,
    "truncation": True,
    "padding": True,
    "pad_to_max": False,
    "mask_input": True,
    "mask_response": True,
    "data_preprocess_type": "neural_chat",
    "max_train_samples": 0,
    "max_eval_samples": 0,
    "train_group_size": 8,
    "query_max_len": 128,
    "passage_max_len": 128,
    "query_instruction_for_retrieval": None,
    "passage_instruction_for_retrieval": None,
    "reasoning_dataset_keys": ["Question", "Complex_CoT", "Response"],
}
TRAINING = {
    "optimizer": "adamw_torch",
    "batch_size": 2,
    "epochs": 1,
    "max_train_steps": None,
    "learning_rate": 5e-5,
    "lr_scheduler": "linear",
    "weight_decay": 0.0,
    "device": "cpu",
    "hpu_execution_mode": "lazy",
    "num_training_workers": 1,
    "resources_per_worker": {"CPU": 32, "GPU": 0, "HPU": 0},
    "accelerate_mode": "DDP",
    "mixed_precision": "no",
    "gradient_accumulation_steps": 1,
    "logging_steps": 10,
    "deepspeed_config_file": "",
    "embedding_training_config": {
        "negatives_cross_device": False,
        "temperature": 0.02,
        "sentence_pooling_method": "cls",
        "normalized": True,
        "use_inbatch_neg": True,
    },
    "dpo_beta": 0.1,
}


def request(body: dict[str, Any]) -> JobRequest:
    return read_shape(OpeaCreateJob, MINIMAL | body).to_request()


def refusal(body: dict[str, Any]) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as refused:
        request(body)
    return refused.value


def test_each_key_has_opeas_default() -> None:
    read = read_shape(OpeaCreateJob, MINIMAL).model_dump()
    assert read["General"] == GENERAL
    assert read["Dataset"] == DATASET
    assert read["Training"] == TRAINING


def test_all_defaults_may_be_spelt_out() -> None:
    training = TRAINING | {"resources_per_worker": {}, "mixed_precision": "bf16"}
    spelt = request({"General": GENERAL, "Dataset": DATASET, "Training": training})
    assert spelt == request({}).model_copy(update={"precision": Precision.BF16})


def test_a_minimal_request_has_opeas_hyperparameters() -> None:
    assert request({}) == JobRequest(
        n_epochs=1,
        batch_size=2,
        learning_rate=5e-5,
        lora=LoraSpec(rank=8, alpha=32, dropout=0.1, targets=None),
        max_length=512,
        held_out_percent=5,
    )


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"General": {"lora_config": {"r": 16}}}, "lora", LoraSpec(rank=16, dropout=0.1)),
        (
            {"General": {"lora_config": {"target_modules": ["q_proj"], "lora_dropout": 0}}},
            "lora",
            LoraSpec(rank=8, targets=("q_proj",)),
        ),
        ({"General": {"save_strategy": "steps"}}, "checkpoint_every", 500),
        ({"General": {"enable_gradient_checkpointing": True}}, "gradient_checkpointing", True),
        ({"Dataset": {"max_length": 64}}, "max_length", 64),
        ({"Dataset": {"max_seq_length": 64}}, "max_length", 64),
        ({"Dataset": {"max_train_samples": 9}}, "max_examples", 9),
        ({"Dataset": {"validation_split_percentage": 0}}, "held_out_percent", 0),
        ({"Training": {"epochs": 3}}, "n_epochs", 3),
        ({"Training": {"batch_size": 8}}, "batch_size", 8),
        (
            {"Training": {"batch_size": 8, "gradient_accumulation_steps": 4}},
            "batch_size",
            32,
        ),
        ({"Training": {"learning_rate": 1e-3}}, "learning_rate", 1e-3),
        ({"Training": {"lr_scheduler": "cosine"}}, "schedule", "cosine"),
        ({"Training": {"weight_decay": 0.01}}, "weight_decay", 0.01),
        ({"Training": {"max_train_steps": 7}}, "max_steps", 7),
        ({"Training": {"optimizer": "adafactor"}}, "optimizer", Optimizer.ADAFACTOR),
        ({"Training": {"mixed_precision": "no"}}, "precision", Precision.FP32),
        ({"Training": {"resources_per_worker": {"CPU": 2}}}, "cpus", 2),
        ({"Training": {"num_training_workers": 3}}, "workers", 3),
        ({"Dataset": {"truncation": False}}, "over_length", Policy.REFUSE),
        ({"Dataset": {"truncation": True}}, "over_length", Policy.CUT),
        ({"hyperparameters": {"n_epochs": 2}}, "n_epochs", 2),
        ({"hyperparameters": {"n_epochs": "auto"}}, "n_epochs", 1),
        ({"hyperparameters": {"batch_size": 4}}, "batch_size", 4),
        ({"hyperparameters": {"learning_rate_multiplier": 1e-4}}, "learning_rate", 1e-4),
        ({"suffix": "blue"}, "suffix", "blue"),
    ],
)
def test_a_key_is_honoured_and_changes_nothing_else(
    body: dict[str, Any], field: str, value: object
) -> None:
    assert request(body) == request({}).model_copy(update={field: value})


@pytest.mark.parametrize(
    "body",
    [
        {"General": {"base_model": "x", "output_dir": "/etc", "gpt_base_model": True}},
        {"General": {"save_strategy": "epoch", "config": {"token": ""}}},
        {"Dataset": {"train_file": "x", "group": False, "block_size": 64, "shuffle": True}},
        {"Dataset": {"padding_side": "left", "padding": "max_length", "pad_to_max": True}},
        {"Training": {"device": "CPU", "logging_steps": 1, "dpo_beta": 0.5}},
    ],
)
def test_a_key_without_effect_in_this_task_is_accepted(body: dict[str, Any]) -> None:
    assert request(body) == request({})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("General", "tokenizer_name", "x"),
        ("General", "gaudi_config_name", "x"),
        ("Dataset", "max_source_length", 100),
        ("Dataset", "truncation_side", "left"),
        ("Dataset", "mask_input", False),
        ("Dataset", "mask_response", False),
        ("Dataset", "data_preprocess_type", "x"),
        ("Dataset", "max_eval_samples", 3),
        ("Training", "optimizer", "sgd"),
        ("Training", "accelerate_mode", "FSDP"),
        ("Training", "mixed_precision", "fp16"),
        ("Training", "deepspeed_config_file", "x.json"),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_by_name(
    section: str, key: str, value: object
) -> None:
    error = refusal({section: {key: value}})
    assert error.param == f"{section}.{key}"
    assert error.code == "unsupported_value"
    assert f"'{section}.{key}' does not support" in error.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"General": {"config": {"trust_remote_code": True}}}, "General.config.trust_remote_code"),
        ({"General": {"xtune_config": {"tool": "clip"}}}, "General.xtune_config.tool"),
        ({"General": {"lora_config": {"r": 0}}}, "General.lora_config.r"),
        ({"General": {"lora_config": {"lora_dropout": 1}}}, "General.lora_config.lora_dropout"),
        ({"General": {"lora_config": {"target_modules": []}}}, None),
        ({"General": {"lora_config": {"lora_alpha": 1e300}}}, "General.lora_config.lora_alpha"),
        ({"Training": {"weight_decay": 11}}, "Training.weight_decay"),
        ({"General": {"colour": 1}}, "General.colour"),
        ({"General": {"resume_from_checkpoint": "/etc/passwd"}}, "General.resume_from_checkpoint"),
        ({"Training": {"dpo_beta": 0}}, "Training.dpo_beta"),
        ({"General": None}, "General"),
        ({"Dataset": {"max_length": 7}}, "Dataset.max_length"),
        ({"Dataset": {"padding": 1}}, "Dataset.padding"),
        ({"Dataset": {"validation_split_percentage": 100}}, "Dataset.validation_split_percentage"),
        ({"Training": {"epochs": "1"}}, "Training.epochs"),
        ({"Training": {"learning_rate": 2}}, "Training.learning_rate"),
        ({"Training": {"learning_rate": 9e-9}}, "Training.learning_rate"),
        ({"Training": {"lr_scheduler": "polynomial"}}, "Training.lr_scheduler"),
        ({"Training": {"resources_per_worker": {"GPU": 1}}}, "Training.resources_per_worker.GPU"),
        ({"hyperparameters": {"learning_rate_multiplier": 2}}, None),
        ({"hyperparameters": {"learning_rate_multiplier": 9e-9}}, None),
        ({"seed": "x"}, "seed"),
        ({"seed": -1}, "seed"),
        ({"metadata": {}}, "metadata"),
    ],
)
def test_a_wrong_value_is_refused_at_its_path(body: dict[str, Any], param: str | None) -> None:
    error = refusal(body)
    assert error.param is not None
    assert param in (None, error.param)
    assert error.param in error.message


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (
            {"Training": {"epochs": 2}, "hyperparameters": {"n_epochs": 3}},
            ("Training.epochs", "hyperparameters.n_epochs"),
        ),
        (
            {"Dataset": {"max_length": 64, "max_seq_length": 128}},
            ("Dataset.max_length", "Dataset.max_seq_length"),
        ),
        (
            {"Training": {"batch_size": 64, "gradient_accumulation_steps": 8}},
            ("512", "Training.gradient_accumulation_steps"),
        ),
    ],
)
def test_keys_that_contradict_each_other_are_both_named(
    body: dict[str, Any], keys: tuple[str, str]
) -> None:
    message = refusal(body).message
    assert all(key in message for key in keys)


def test_the_validation_file_may_stand_in_either_place_but_only_one() -> None:
    def name(**keys: Any) -> str | None:
        return read_shape(OpeaCreateJob, MINIMAL | keys).to_validation_name()

    assert name() is None
    assert name(validation_file="v") == name(Dataset={"validation_file": "v"}) == "v"
    with pytest.raises(InvalidRequestError, match="differ"):
        name(validation_file="v", Dataset={"validation_file": "w"})


@pytest.mark.parametrize("token", ["hf_secret", 12345])
def test_a_secret_is_refused_without_being_repeated(token: object) -> None:
    error = refusal({"General": {"config": {"token": token}}})
    assert error.param == "General.config.token"
    assert str(token) not in error.message


@given(
    r=st.integers(1, 1024),
    alpha=st.floats(1e-300, 1e6),
    length=st.integers(8, 1_048_576),
    size=st.integers(1, 256),
    rate=st.floats(1e-8, 1),
    percent=st.integers(0, 99),
)
def test_what_the_wire_takes_the_domain_takes(
    *, r: int, alpha: float, length: int, size: int, rate: float, percent: int
) -> None:
    asked = request(
        {
            "General": {"lora_config": {"r": r, "lora_alpha": alpha}},
            "Dataset": {"max_length": length, "validation_split_percentage": percent},
            "Training": {"batch_size": size, "learning_rate": rate},
        }
    )
    assert asked.lora is not None
    assert (asked.lora.rank, asked.batch_size, asked.held_out_percent) == (r, size, percent)


@pytest.mark.parametrize(
    ("body", "opea"),
    [
        ({"training_file": "alpaca_data.json"}, True),
        ({"training_file": "file-2024.json"}, True),
        ({"training_file": "file-abc"}, True),
        ({"training_file": f"{FILE_ID}.jsonl"}, True),
        ({"training_file": FILE_ID}, False),
        ({"training_file": FILE_ID, "General": {}}, True),
        ({"training_file": FILE_ID, "Dataset": {}}, True),
        ({"training_file": FILE_ID, "Training": {}}, True),
    ],
)
def test_the_dialect_is_told_by_opeas_sections_or_a_file_name(
    body: dict[str, Any], opea: bool
) -> None:
    assert isinstance(read_create({"model": "m"} | body), OpeaCreateJob) is opea


@pytest.mark.parametrize(
    ("training", "device"),
    [
        ({}, Device.XPU),
        ({"device": "cpu"}, Device.CPU),
        ({"device": "HPU"}, Device.HPU),
        ({"device": "hpu", "resources_per_worker": {"HPU": 1}}, Device.HPU),
        ({"device": "gpu"}, Device.CUDA),
        ({"device": "cuda", "resources_per_worker": {"GPU": 1}}, Device.CUDA),
    ],
)
def test_what_is_trained_on_is_the_services_own_where_the_request_does_not_say_it(
    training: dict[str, Any], device: Device
) -> None:
    wanted = read_shape(OpeaCreateJob, MINIMAL | {"Training": training})

    assert wanted.to_request(device=Device.XPU).device is device


def test_intels_cards_are_what_ray_calls_a_gpu_too() -> None:
    resources = {"Training": {"resources_per_worker": {"GPU": 1}}}
    wanted = read_shape(OpeaCreateJob, MINIMAL | resources)

    assert wanted.to_request(device=Device.XPU).device is Device.XPU


@pytest.mark.parametrize(("device", "name"), [("cpu", "HPU"), ("hpu", "GPU"), ("gpu", "HPU")])
def test_workers_have_no_devices_of_another_kind_than_they_train_on(device: str, name: str) -> None:
    error = refusal({"Training": {"device": device, "resources_per_worker": {name: 1}}})

    assert error.param == f"Training.resources_per_worker.{name}"
    assert f"Set 'Training.device' to '{name.lower()}'" in error.message


def test_report_to_asks_for_the_integration_of_tensorboard_once() -> None:
    given = {"model": "m", "training_file": "a.jsonl", "General": {"report_to": "tensorboard"}}
    both = {**given, "integrations": [{"type": "tensorboard"}]}
    for body in (given, both):
        request = read_shape(OpeaCreateJob, body).to_request()
        assert request.integrations == (TensorboardIntegration(),)

    full = {**given, "integrations": [{"type": "wandb", "wandb": {"project": "p"}}] * 5}
    with pytest.raises(InvalidRequestError) as refused:
        read_shape(OpeaCreateJob, full).to_request()
    assert refused.value.param == "General.report_to"

"""What is trained is what the spec says, or the run says that it cannot be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import (
    AutoModel,
    BloomConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from models.tiny import byte_tokenizer
from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import CatalogueEntry, FolderSource, HubSource
from tunesmith.domain.spec import LoraSpec
from tunesmith.training.adapter import context_length

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.training.conftest import Bench, Rows


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 that takes 128 tokens at once."""
    folder = tmp_path_factory.mktemp("base") / "tiny-gpt2"
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_an_example_longer_than_the_models_context_is_cut_there_and_the_receipt_says_so(
    bench: Bench, gpt2_folder: Path
) -> None:
    long = {"instruction": "Count", "output": "word " * 60}
    entry = CatalogueEntry(name="gpt2", source=FolderSource(path=gpt2_folder))
    bench.write_spec([long] * 4, base_model=entry, max_length=512, n_epochs=1)

    outcome = bench.train()

    assert outcome.error is None
    [warning] = [e for e in bench.run.events(after=0) if e.level is EventLevel.WARN]
    assert "takes 128 tokens at once; the maximum length is 128, not 512" in warning.message
    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    assert receipt["max_length"] == 128
    assert receipt["training"]["report"]["cut"] == 4


def test_a_maximum_length_within_the_context_stays_as_it_is(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(4), n_epochs=1, max_length=128)

    bench.train()

    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    assert receipt["max_length"] == 128
    assert not any("maximum length" in message for message in bench.messages())


def test_a_model_without_a_context_of_its_own_has_no_bound() -> None:
    assert context_length(BloomConfig()) is None


@pytest.mark.parametrize("config", [RobertaConfig, XLMRobertaConfig, MPNetConfig])
def test_a_model_that_counts_from_behind_its_padding_takes_fewer(config: Any) -> None:
    """Its own embeddings hold as many, and fail at one more."""
    small = config(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=34,
        pad_token_id=1,
    )
    model = AutoModel.from_config(small).eval()
    longest = context_length(small)
    assert longest == 32

    model(torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        model(torch.full((1, longest + 1), 5))


def test_a_lora_target_that_names_nothing_is_told_with_those_that_there_are(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(4), lora=LoraSpec(rank=4, targets=("q_proj", "c_attn", "roj")))

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.INVALID_HYPERPARAMETERS
    assert error.param == "lora.targets"
    assert error.message == (
        "The base model 'tiny' has no module to adapt named 'c_attn' or 'roj'. "
        "Choose the LoRA targets from: down_proj, embed_tokens, gate_proj, k_proj, lm_head, "
        "o_proj, q_proj, up_proj, v_proj."
    )
    assert not any("train.jsonl" in message for message in bench.messages()), "before data is read"


def test_lora_targets_are_the_modules_that_get_an_adapter(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    targets = ("self_attn.q_proj", "up_proj")
    bench.write_spec(rows(4), n_epochs=1, lora=LoraSpec(rank=4, targets=targets))

    assert bench.train().error is None

    config = json.loads((bench.output / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == set(targets)


def test_a_later_attempt_trains_the_commit_of_the_first_though_the_branch_moved_on(
    bench: Bench, rows: Callable[[int], Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = "0a" * 20, "0b" * 20
    for commit in (first, second):
        (tmp_path / commit).symlink_to(bench.base)
    branch, asked = [first], list[str]()

    def fetch(_: str, *, revision: str, **__: object) -> str:
        asked.append(revision)
        return str(tmp_path / (branch[-1] if revision == "main" else revision))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    entry = CatalogueEntry(name="tiny", source=HubSource(repo="org/tiny"))
    bench.write_spec(rows(4), n_epochs=1, base_model=entry)
    bench.train()
    branch.append(second)
    bench.run.claim(2)

    assert bench.train(attempt=2).error is None

    assert asked == ["main", first]
    config = json.loads((bench.output / "adapter_config.json").read_text())
    assert config["revision"] == first
    receipt = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    assert receipt["base_revision"] == first


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ("training_file", FailureCode.INVALID_TRAINING_FILE),
        ("validation_file", FailureCode.INVALID_VALIDATION_FILE),
    ],
)
def test_a_file_that_is_not_what_was_uploaded_is_not_trained_on(
    bench: Bench, rows: Callable[[int], Rows], changed: str, code: FailureCode
) -> None:
    spec = bench.write_spec(rows(8), validation_file=bench.upload("validation", rows(2)))
    file = {"training_file": spec.training_file, "validation_file": spec.validation_file}[changed]
    assert file is not None
    bench.artifacts.append(file.key, b'\n{"instruction": "Say 1", "output": "2"}')

    error = bench.train().error

    assert error is not None
    assert (error.code, error.param) == (code, changed)
    assert f"'{file.filename}' is not what was uploaded" in error.message

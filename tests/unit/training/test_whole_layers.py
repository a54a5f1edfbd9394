"""Embeddings and head are trained beside an adapter, exactly, and whoever loads it has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

from models.families import FAMILIES
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.domain.preferences import Sigmoid
from tunesmith.domain.spec import LoraSpec, Method, Precision, WholeLayer
from tunesmith.models.bringing import BaseModel
from tunesmith.training import checkpoints
from tunesmith.training.adapter import DTYPES, load_model
from tunesmith.training.examples import MicroBatch, micro_batch_of
from tunesmith.training.network import Network
from tunesmith.training.packed import pack
from unit.training.ranking import asked, ranking_rows
from unit.training.test_dpo import pair_rows

if TYPE_CHECKING:
    from tunesmith.domain.changes import Change
    from tunesmith.training.checkpoints import Learner, Snapshot
    from unit.training.conftest import Bench, Rows

BOTH = (WholeLayer.EMBEDDINGS, WholeLayer.HEAD)
TIED = {"smollm2", "gemma2", "gemma3", "gpt2", "opt"}
PADDED = {"gemma2"}
EMBEDDINGS = {"gpt2": "transformer.wte", "opt": "model.decoder.embed_tokens"}
"""What a family calls its embeddings, if not `model.embed_tokens`; all call the head `lm_head`."""
PROMPT = torch.tensor([[5, 80, 33, 61, 7]])


def lora(*layers: WholeLayer, **changes: Any) -> LoraSpec:
    return LoraSpec(rank=3, alpha=6, also_train=layers, **changes)


def tuned_on(folder: Path, *layers: WholeLayer, **changes: Any) -> dict[str, Any]:
    entry = CatalogueEntry(name=folder.name, source=FolderSource(path=folder))
    return {"base_model": entry, "lora": lora(*layers), **changes}


def plain(folder: Path) -> PeftModel:
    """Return what `peft` makes of the model by its own means."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=3,
        lora_alpha=6,
        target_modules="all-linear",
        modules_to_save=[EMBEDDINGS.get(folder.name, "model.embed_tokens"), "lm_head"],
        ensure_weight_tying=folder.name in TIED,
    )
    return get_peft_model(model, config).eval()


def texts() -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(3)
    return [torch.randint(200, (length,), generator=drawn) for length in (19, 3, 11)]


def backward(network: Network, batch: MicroBatch, *, weights: torch.Tensor) -> torch.Tensor:
    """Carry the sum of all losses back, each with a weight of its own; return them."""
    losses, _ = network.losses(batch, batch.learn.nonzero().squeeze(1))
    torch.autograd.backward((losses * weights).sum())
    return losses.detach()


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in PADDED])
def test_packed_gradients_are_those_of_plain_peft(
    name: str, folder_of: Callable[[str], Path], bench: Bench, rows: Callable[[int], Rows]
) -> None:
    folder, reference = folder_of(name), plain(folder_of(name))
    torch.manual_seed(1)
    for key, weight in reference.named_parameters():
        if "lora_B" in key:
            weight.data.normal_(std=0.1)
    spec = bench.write_spec(rows(4), **tuned_on(folder, *BOTH))
    base = BaseModel(folder=folder, reference=str(folder))
    model = load_model(spec, base, precision=Precision.FP32, padded=False)
    set_peft_model_state_dict(model, get_peft_model_state_dict(reference))
    lengths = [len(text) - 1 for text in texts()]
    weights = torch.linspace(0.5, 2.0, sum(lengths))

    network = pack(model, torch.float32)
    together = backward(network, micro_batch_of(texts()), weights=weights)

    parts = torch.split(weights, lengths)
    alone = [
        backward(Network(reference), micro_batch_of([text]), weights=part)
        for text, part in zip(texts(), parts, strict=True)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    found = {key: weight.grad for key, weight in model.named_parameters() if weight.requires_grad}
    expected = {key: w.grad for key, w in reference.named_parameters() if w.requires_grad}
    assert found.keys() == expected.keys()
    assert sum("modules_to_save" in key for key in found) == (
        1 if name in TIED else 3 if name == "phi" else 2
    )
    for key, gradient in expected.items():
        assert torch.allclose(found[key], gradient, atol=1e-4, rtol=1e-4), key


@pytest.mark.parametrize("name", ["smollm2", "phi"])
def test_in_bf16_the_gradients_of_whole_layers_stay_near_those_in_fp32(
    name: str, folder_of: Callable[[str], Path], bench: Bench, rows: Callable[[int], Rows]
) -> None:
    folder = folder_of(name)
    spec = bench.write_spec(rows(4), **tuned_on(folder, *BOTH))
    base = BaseModel(folder=folder, reference=str(folder))
    found: list[dict[str, torch.Tensor]] = []
    for precision, dtype in DTYPES.items():
        model = load_model(spec, base, precision=precision, padded=False)
        backward(pack(model, dtype), micro_batch_of(texts()), weights=torch.ones(()))
        trained = {key: w for key, w in model.named_parameters() if "modules_to_save" in key}
        assert all(weight.dtype == torch.float32 for weight in trained.values())
        found.append({key: w.grad for key, w in trained.items() if w.grad is not None})

    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == (1 if name in TIED else 3)
    for one, other in zip(found[0].values(), found[1].values(), strict=True):
        assert float((one - other).norm() / one.norm()) < 0.05


@pytest.fixture
def last_logits(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Collect what the model in training says to `PROMPT` at each checkpoint."""
    seen: list[torch.Tensor] = []
    snapshot = checkpoints.snapshot

    def look_and_copy(learner: Learner, **asked: Any) -> Snapshot:
        batch = micro_batch_of([PROMPT[0]])
        learner.model.eval()
        with torch.no_grad():
            seen.append(learner.network.logits(batch, torch.arange(batch.tokens)).float())
        learner.model.train()
        return snapshot(learner, **asked)

    monkeypatch.setattr(checkpoints, "snapshot", look_and_copy)
    return seen


@pytest.mark.parametrize("name", FAMILIES)
def test_plain_peft_loads_what_was_trained_and_says_the_same(
    name: str,
    folder_of: Callable[[str], Path],
    bench: Bench,
    rows: Callable[[int], Rows],
    last_logits: list[torch.Tensor],
) -> None:
    layer = WholeLayer.HEAD if name in TIED else WholeLayer.EMBEDDINGS
    bench.write_spec(rows(8), **tuned_on(folder_of(name), layer))

    assert bench.train().error is None

    base = AutoModelForCausalLM.from_pretrained(folder_of(name), dtype=torch.float32).eval()
    with torch.no_grad():
        untouched = base(PROMPT).logits[0]
        loaded = PeftModel.from_pretrained(base, bench.output).eval()
        assert torch.allclose(loaded(PROMPT).logits[0], last_logits[-1], atol=2e-5)
        with loaded.disable_adapter():
            assert torch.equal(loaded(PROMPT).logits[0], untouched)
    inner = loaded.get_base_model()
    embeddings, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    assert not torch.equal(embeddings.weight, embeddings.original_module.weight)
    assert (head.weight is embeddings.weight) == (name in TIED)
    assert any("trained as one" in said for said in bench.messages()) == (name in TIED)
    assert any("Texts are padded" in said for said in bench.messages()) == (name in PADDED)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
@pytest.mark.parametrize("name", ["smollm2", "gemma2", "phi"])
def test_a_killed_run_goes_on_to_the_same_bytes_and_what_is_trained_stays_fp32(
    name: str,
    precision: Precision,
    folder_of: Callable[[str], Path],
    new_bench: Callable[[str], Bench],
    rows: Callable[[int], Rows],
) -> None:
    """A step of 1e-6 is lost where weights have the 8 bits of bf16."""
    whole, killed = new_bench("whole"), new_bench("killed")
    changes = tuned_on(folder_of(name), *BOTH, precision=precision, checkpoint_every=1)
    for bench in (whole, killed):
        bench.write_spec(rows(8), learning_rate=1e-6, weight_decay=0.0, **changes)
    whole.train()
    killed.train_until(b"Step 3")
    killed.train(2)

    assert killed.adapter() == whole.adapter()
    saved = load_file(whole.output / "adapter_model.safetensors")
    base = load_file(folder_of(name) / "model.safetensors")
    start = base["model.embed_tokens.weight"]
    if precision is Precision.BF16 and name not in PADDED:
        start = start.bfloat16().float()
    trained = saved["base_model.model.model.embed_tokens.weight"]
    assert trained.dtype == torch.float32
    assert 0 < float((trained - start).abs().max()) < 1e-4
    assert torch.equal(trained, saved["base_model.model.lm_head.weight"]) == (name in TIED)


@pytest.mark.parametrize("name", ["smollm2", "phi"])
def test_a_checkpoint_that_is_saved_aside_is_the_same(
    name: str,
    folder_of: Callable[[str], Path],
    new_bench: Callable[[str], Bench],
    rows: Callable[[int], Rows],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = []
    for small in (0.0, 1.0):
        monkeypatch.setattr(checkpoints, "_SMALL", small)
        bench = new_bench(str(small))
        bench.write_spec(rows(8), n_epochs=1, **tuned_on(folder_of(name), *BOTH))
        assert bench.train().error is None
        results.append(bench.adapter())

    assert results[0] == results[1]


def test_a_job_goes_on_from_an_adapter_with_its_embeddings_and_head(
    bench: Bench, rows: Callable[[int], Rows], folder_of: Callable[[str], Path]
) -> None:
    changes = tuned_on(folder_of("gpt2"), *BOTH, learning_rate=1e-2)
    same = bench.upload("same", rows(8))
    bench.write_spec(rows(8), n_epochs=3, validation_file=same, **changes)
    bench.train()
    ended = bench.metrics()[-1]
    bench.artifacts.put("output/ftjob-0/adapter_model.safetensors", bench.adapter())
    bench.artifacts.delete(bench.run.prefix)
    bench.write_spec(rows(8), batch_size=8, start_from="output/ftjob-0", **changes)

    bench.train()

    assert bench.metrics()[0].train_loss == pytest.approx(ended.valid_loss, abs=1e-5)
    other = changes | {"lora": lora()}
    bench.artifacts.delete(bench.run.prefix)
    bench.write_spec(rows(8), start_from="output/ftjob-0", **other)
    error = bench.train().error
    assert error is not None
    assert error.code is FailureCode.MODEL_UNAVAILABLE


def test_preferences_are_held_to_the_embeddings_and_head_as_they_were(
    bench: Bench, folder_of: Callable[[str], Path]
) -> None:
    fields = {"method": Method.DPO, "beta": 0.3, "preference": Sigmoid(), "n_epochs": 4}
    bench.write_spec(pair_rows(8), **tuned_on(folder_of("smollm2"), *BOTH, **fields))

    assert bench.train().error is None

    losses = [step.train_loss for step in bench.metrics()]
    assert losses[0] == pytest.approx(0.6931472, abs=1e-4)
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("name", ["smollm2", "gemma2"])
def test_on_a_base_model_in_4_bits_they_are_trained_in_fp32(
    name: str, folder_of: Callable[[str], Path], bench: Bench, rows: Callable[[int], Rows]
) -> None:
    fields = tuned_on(folder_of(name), *BOTH)
    fields["lora"] = lora(*BOTH, quantized=True)
    bench.write_spec(rows(8), precision=Precision.BF16, **fields)

    assert bench.train().error is None

    saved = load_file(bench.output / "adapter_model.safetensors")
    trained = saved["base_model.model.model.embed_tokens.weight"]
    assert trained.dtype == torch.float32
    assert torch.equal(trained, saved["base_model.model.lm_head.weight"])
    assert bench.metrics()[-1].train_loss < bench.metrics()[0].train_loss


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_encoders_train_their_embeddings(
    bench: Bench, bert_folder: Path, method: Method, precision: Precision
) -> None:
    layers = BOTH if method is Method.RERANK else (WholeLayer.EMBEDDINGS,)
    fields = asked(bert_folder, method, lora=lora(*layers))
    bench.write_spec(ranking_rows(8), precision=precision, **fields)

    assert bench.train().error is None

    config = json.loads((bench.output / "adapter_config.json").read_text())
    saved = load_file(bench.output / "adapter_model.safetensors")
    [trained] = [saved[key] for key in saved if key.endswith("word_embeddings.weight")]
    base = AutoModel.from_pretrained(bert_folder).get_input_embeddings().weight
    assert trained.dtype == torch.float32
    assert not torch.equal(trained, base)
    assert ("classifier" in config["modules_to_save"]) == (method is Method.RERANK)


@pytest.mark.parametrize(
    ("changes", "found", "mend"),
    [
        (
            {"method": Method.EMBEDDING},
            "has no head that makes logits",
            {"lora.also_train": ["embeddings"]},
        ),
        (
            {"lora": lora(*BOTH, targets=("embed_tokens", "q_proj"))},
            "Leave it out of one of them",
            {"lora.targets": None},
        ),
    ],
)
def test_what_cannot_be_trained_so_is_told_before_data_is_read(
    bench: Bench, rows: Callable[[int], Rows], changes: dict[str, Any], found: str, mend: Change
) -> None:
    bench.write_spec(rows(4), **{"lora": lora(*BOTH), **changes})

    error = bench.train().error

    assert error is not None
    assert (error.code, error.param) == (
        FailureCode.INVALID_HYPERPARAMETERS,
        "lora.also_train",
    )
    assert found in error.message
    assert error.change == mend
    assert not any("train.jsonl" in message for message in bench.messages())

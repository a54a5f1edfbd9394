"""An adapter learns on a base model in 4 bits as it does in peft, on any architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM

from models.families import adapted
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.domain.spec import LoraSpec, Method
from tunesmith.models import quantization
from tunesmith.models.quantization import dequantize, is_quantized, keep_layout, nf4
from tunesmith.training import adapter
from tunesmith.training.examples import micro_batch_of
from tunesmith.training.network import Network
from tunesmith.training.packed import pack
from unit.training.ranking import asked, ranking_rows

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from unit.training.conftest import Bench, Rows

QLORA = LoraSpec(rank=4, alpha=8, quantized=True)
LENGTHS = (19, 3, 11)


@pytest.fixture(params=["llama", "gpt2", "opt"])
def folder(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> Path:
    """A tiny model: linear layers without bias, GPT-2's convolutions, linear layers with bias."""
    return folder_of(request.param)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[PreTrainedModel | PeftModel]:
    """The models that runs load."""
    models: list[PreTrainedModel | PeftModel] = []
    load = adapter.load_model

    def look_and_load(*given: object, **named: object) -> PreTrainedModel | PeftModel:
        models.append(load(*given, **named))  # type: ignore[arg-type]
        return models[-1]

    monkeypatch.setattr("tunesmith.training.loading.load_model", look_and_load)
    return models


def in_four_bits(folder: Path) -> PeftModel:
    """Return the model with an adapter of peft's that already changes what it says."""
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        quantization_config=nf4(torch.float32, whole=["lm_head"]),
        device_map={"": "cpu"},
    )
    keep_layout(model)
    return adapted(model)


def test_packed_texts_have_the_losses_and_gradients_that_peft_gives_each_alone(
    folder: Path,
) -> None:
    drawn = torch.Generator().manual_seed(3)
    texts = [torch.randint(200, (length,), generator=drawn) for length in LENGTHS]
    plain, packed = in_four_bits(folder), in_four_bits(folder)
    network = pack(packed, torch.float32)

    together = losses(network, texts)
    torch.autograd.backward(together.sum())
    alone = torch.cat([losses(Network(plain), [text]) for text in texts])
    torch.autograd.backward(alone.sum())

    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(gradients(packed), gradients(plain), atol=1e-4, rtol=1e-4)


def test_a_run_keeps_the_frozen_layers_in_4_bits_and_ends_with_an_adapter_for_peft(
    folder: Path,
    new_bench: Callable[[str], Bench],
    rows: Callable[[int], Rows],
    loaded: list[PreTrainedModel | PeftModel],
) -> None:
    entry = CatalogueEntry(name="tiny", source=FolderSource(path=folder))
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(8), base_model=entry, lora=QLORA, checkpoint_every=1, n_epochs=2)
    assert whole.train().error is None
    [model] = loaded
    killed.train_until(b"Step 3")
    killed.train(2)

    assert killed.adapter() == whole.adapter()
    assert not any("Texts are padded" in said for said in whole.messages())
    assert whole.metrics()[-1].train_loss < whole.metrics()[0].train_loss
    assert isinstance(model, PeftModel)
    head = model.get_base_model().get_output_embeddings()
    assert not is_quantized(head)
    layers = [module for module in model.modules() if hasattr(module, "base_layer")]
    assert layers
    assert all(is_quantized(layer.base_layer) for layer in layers)
    with_it = PeftModel.from_pretrained(in_memory(folder), whole.output)
    assert any(w.abs().sum() > 0 for n, w in with_it.named_parameters() if "lora_B" in n)


def test_4_bits_are_near_the_weights_that_they_stand_for(folder: Path) -> None:
    exact, rounded = in_memory(folder), in_four_bits(folder).get_base_model()
    weights = dict(exact.named_parameters())
    for name, layer in rounded.named_modules():
        if not (isinstance(layer, nn.Linear) and is_quantized(layer)):
            continue
        wanted = weights[f"{name.replace('.base_layer', '')}.weight"]
        found = torch.empty(layer.out_features, layer.in_features)
        dequantize(layer, found)
        found = found.t() if folder.name == "gpt2" else found
        assert 0 < float((found - wanted.detach()).norm() / wanted.detach().norm()) < 0.12


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_an_encoder_takes_4_bits_but_for_a_new_head(
    bench: Bench,
    bert_folder: Path,
    method: Method,
    loaded: list[PreTrainedModel | PeftModel],
) -> None:
    bench.write_spec(ranking_rows(12), n_epochs=3, **asked(bert_folder, method, lora=QLORA))

    assert bench.train().error is None

    layers = {
        name: module
        for name, module in loaded[0].named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name
    }
    plain = {name for name, layer in layers.items() if not is_quantized(layer)}
    assert all("classifier" in name for name in plain)
    assert bool(plain) is (method is Method.RERANK)
    assert bench.metrics()[-1].train_loss < bench.metrics()[0].train_loss


def test_a_node_without_the_library_says_what_to_do(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("No module named 'bitsandbytes'")

    monkeypatch.setattr(quantization, "_library", missing)
    bench.write_spec(rows(4), lora=QLORA)

    error = bench.train().error

    assert error is not None
    assert (error.code, error.param) == (FailureCode.MODEL_UNAVAILABLE, "tuning.adapter.kind")
    assert error.change == {"lora": {}}
    assert "Install 'tunesmith[qlora]' there" in error.message


def in_memory(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def losses(network: Network, texts: list[torch.Tensor]) -> torch.Tensor:
    batch = micro_batch_of(texts)
    return network.losses(batch, batch.learn.nonzero().squeeze(1))[0]


def gradients(model: nn.Module) -> torch.Tensor:
    return torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])

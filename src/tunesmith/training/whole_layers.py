"""The embeddings and the head, where they are trained as a whole beside an adapter.

`peft` keeps a copy of each that is trained and saved, and leaves the original as it is, so that a
model without its adapter is the base model. Where the head shares its weights with the embeddings,
the copies share theirs too, and both are saved: with a copy of one alone, what loads the adapter
would take the other from the base model.
"""

from __future__ import annotations

from peft import LoraConfig, PeftModel
from pydantic import JsonValue
from transformers import PreTrainedModel

from tunesmith.domain.changes import Change
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import LoraSpec, Method, TrainSpec, WholeLayer
from tunesmith.training.failures import RunFailedError


def whole_layers(model: PreTrainedModel, lora: LoraSpec) -> list[str]:
    """Return the paths in `model` of the layers that are trained beside the adapter `lora`.

    A head that the model does not have is left out.
    """
    layers = {
        WholeLayer.EMBEDDINGS: model.get_input_embeddings(),
        WholeLayer.HEAD: model.get_output_embeddings(),
    }
    wanted = WholeLayer if lora.also_train and is_tied(model) else lora.also_train
    paths = {id(module): path for path, module in model.named_modules()}
    return [paths[id(layers[name])] for name in wanted if layers[name] is not None]


def is_tied(model: PreTrainedModel) -> bool:
    """Tell whether the head of `model` shares its weights with the embeddings."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def check_whole_layers(spec: TrainSpec, model: PreTrainedModel) -> None:
    """Raise `RunFailedError` if `model` lacks what `spec` trains so, or that has an adapter too."""
    lora = spec.lora
    if lora is None:
        return
    # A reranker's head is no language model's, and is trained in any case.
    headless = model.get_output_embeddings() is None and spec.method is not Method.RERANK
    if headless and WholeLayer.HEAD in lora.also_train:
        others: list[JsonValue] = [
            layer.value for layer in lora.also_train if layer is not WholeLayer.HEAD
        ]
        raise _no_place(
            f"The base model '{spec.base_model.name}' has no head that makes logits, so that none "
            "can be trained. Leave 'head' out.",
            change={"lora.also_train": others},
        )
    for path in whole_layers(model, lora):
        for target in lora.targets or ():
            if f".{path}".endswith(f".{target}"):
                raise _no_place(
                    f"The layer '{path}' is to be trained as a whole, but '{target}' is among the "
                    "LoRA targets too. Leave it out of one of them.",
                    change={"lora.targets": None},
                )


def tie(model: PeftModel, config: LoraConfig, *, layers: list[str]) -> None:
    """Let the copies of embeddings and head in `model` share their weights, as their originals do.

    `layers` are the paths of both, which the `config` that is saved is to name: `peft` keeps the
    name of one alone, and where it does not know it for the embeddings', it loads no other copy.
    """
    inner = model.get_base_model()
    head, embeddings = inner.get_output_embeddings(), inner.get_input_embeddings()
    for name, copy in head.modules_to_save.items():
        copy.weight = embeddings.modules_to_save[name].weight
    config.modules_to_save = layers


def _no_place(message: str, *, change: Change) -> RunFailedError:
    return RunFailedError(
        FailureCode.INVALID_HYPERPARAMETERS, message, param="lora.also_train", change=change
    )

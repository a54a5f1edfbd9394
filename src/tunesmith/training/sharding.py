"""Divides a model all of whose weights are trained among its workers, by FSDP2.

Each worker keeps its part of each weight, of its gradient and of the optimizer's numbers; a layer
is put together while it is computed. So the workers go through the model in step, layer by layer:
one that breaks off in the middle leaves the others waiting there, and all have to begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from tunesmith.domain.spec import Optimizer, TrainSpec
from tunesmith.training.devices import Place
from tunesmith.training.group import Group
from tunesmith.training.network import Network


def is_sharded(spec: TrainSpec, *, workers: int) -> bool:
    """Whether so many `workers` divide the model of `spec` among themselves.

    They do not with an adapter, which is small, nor with Adafactor, whose numbers are, nor where
    queries and passages are ranked, by models that are small themselves.
    """
    whole = spec.lora is None and spec.ranking is None
    return whole and workers > 1 and spec.optimizer is Optimizer.ADAMW


def shard(model: PreTrainedModel, *, group: Group, place: Place) -> Network:
    """Divide `model`, which is at `place`, among the ranks of `group`, all of which call this.

    Padded texts go through it. Its layers are those that transformers says are never to be split.
    """
    mesh = init_device_mesh(place.name.type, (group.size,))
    layers = set(model._no_split_modules or ())
    # Those inside others first, as a few models have them.
    for module in reversed([one for one in model.modules() if type(one).__name__ in layers]):
        fully_shard(module, mesh=mesh)
    kind = type(model)
    fully_shard(model, mesh=mesh)
    # The class that has taken its place is saved under the name of the model's own.
    type(model).__module__, type(model).__name__ = kind.__module__, kind.__name__
    for module in model.modules():
        if hasattr(module, "layerdrop"):
            # Each rank would leave out layers of its own, where the others wait for it.
            module.layerdrop = 0.0
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The loss is divided by the count of the whole batch: gradients are added up, and no
            # more, which gloo cannot do in one.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
            # Experts may be used by one rank alone.
            module.set_reduce_scatter_unused_params(True)
    network = Network(model, place=place)
    network.in_step = True
    return network


def put_together(values: Any, *, keep: bool = True) -> Any:
    """Return `values`, a tree of what checkpoints hold, with whole tensors in place of parts.

    All ranks call this, in the same order; those that do not `keep` what they see get no tensors. A
    tensor that is there twice stays one, and none changes with those of `values`.
    """
    known: dict[int, torch.Tensor | None] = {}

    def whole(value: Any) -> Any:
        if isinstance(value, DTensor):
            if id(value) not in known:
                found: torch.Tensor = value.full_tensor()
                known[id(value)] = found.detach().cpu() if keep else None
            return known[id(value)]
        if isinstance(value, torch.Tensor):
            return value.detach().to("cpu", copy=True) if keep else None
        if isinstance(value, Mapping):
            return {name: whole(each) for name, each in value.items()}
        return [whole(each) for each in value] if isinstance(value, list) else value

    return whole(values)


def divide(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the `state` of an `optimizer`, whole, with this rank's parts of its tensors."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return {
        **state,
        "state": {
            number: {name: _part(value, weights[number]) for name, value in numbers.items()}
            for number, numbers in state["state"].items()
        },
    }


def divide_weights(weights: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """Return whole `weights` with this rank's parts in place of those that `model` has divided."""
    own = model.state_dict(keep_vars=True)
    return {name: _part(value, own[name]) for name, value in weights.items()}


def _part(value: Any, weight: torch.Tensor) -> Any:
    alike = isinstance(value, torch.Tensor) and value.shape == weight.shape
    if not (alike and isinstance(weight, DTensor)):
        return value
    # Each rank has read the whole, and takes its part of it: nothing is sent.
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)

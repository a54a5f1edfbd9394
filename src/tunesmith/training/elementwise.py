"""What stands between products, in few passes over memory: norms and rotary positions.

Each takes the place of the model's own code only where it gives the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tunesmith.training.kernels import LANES, Kernels

_SAME = 1e-5
"""Largest difference, of values near 1, by which two computations may differ."""
_ROTATION = "apply_rotary_pos_emb"
"""What transformers calls the function in the code of each model that turns by positions."""


def replace_norms(model: nn.Module, fast: Kernels | None) -> None:
    """Let each frozen root mean square norm of `model` be computed by `_Norm`, `fast` if given."""
    for module in model.modules():
        weight, epsilon = getattr(module, "weight", None), _epsilon(module)
        if epsilon is None or not isinstance(weight, nn.Parameter) or weight.requires_grad:
            continue
        sample = _sample(2, *weight.shape).to(weight.device)
        # Gemma's norms keep the difference to 1.
        for scale in (weight.data.float(), weight.data.float() + 1):
            even = scale.numel() % LANES == 0
            norm = partial(_normed, scale=scale, epsilon=epsilon, fast=fast if even else None)
            if _same(module(sample), norm(sample)):
                module.forward = norm
                break


def replace_rotations(model: nn.Module, fast: Kernels | None) -> Callable[[], None]:
    """Let the code of `model` turn queries and keys by `_Rotation`, where it turns halves.

    It is done by `fast`, if given. The code is that of all such models in this process: what is
    returned makes it again what it was.
    """
    own = dict(_rotations(model))
    for code, turning in own.items():
        if _is_ours(turning) or _turns_halves(turning):
            setattr(code, _ROTATION, partial(_rotated, fast=fast))

    def undo() -> None:
        for code, turning in own.items():
            setattr(code, _ROTATION, turning)

    return undo


def _rotations(model: nn.Module) -> Iterator[tuple[ModuleType, Callable[..., Any]]]:
    """Yield the code of `model` that turns, with what it turns by."""
    for name in {type(module).__module__ for module in model.modules()}:
        code = sys.modules[name]
        own = getattr(code, _ROTATION, None)
        if own is not None:
            yield code, own


def _is_ours(own: Callable[..., Any]) -> bool:
    return isinstance(own, partial) and own.func is _rotated


def _turns_halves(own: Callable[..., Any]) -> bool:
    query, key = _sample(1, 4, 3, 8), _sample(1, 2, 3, 8)
    angles = torch.cat([_sample(1, 3, 4)] * 2, dim=-1)
    try:
        theirs = own(query, key, angles.cos(), angles.sin())
    except (TypeError, ValueError, RuntimeError):
        return False
    ours = _rotated(query, key, angles.cos(), angles.sin())
    return all(map(_same, theirs, ours))


def _epsilon(module: nn.Module) -> float | None:
    if not type(module).__name__.endswith("RMSNorm"):
        return None
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return found if isinstance(found, float) else None


def _sample(*shape: int) -> torch.Tensor:
    # Of a generator of its own, so that the run's random numbers stay what they are.
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _same(theirs: torch.Tensor, ours: torch.Tensor) -> bool:
    return theirs.shape == ours.shape and torch.allclose(theirs.float(), ours, atol=_SAME)


def _normed(
    states: torch.Tensor, *, scale: torch.Tensor, epsilon: float, fast: Kernels | None = None
) -> torch.Tensor:
    if fast is not None and states.dtype is torch.float32:
        result: torch.Tensor = _FastNorm.apply(  # type: ignore[no-untyped-call]
            states.contiguous(), scale, epsilon, fast
        )
    else:
        result = _Norm.apply(states, scale, epsilon)  # type: ignore[no-untyped-call]
    return result


def _rotated(
    query: torch.Tensor,
    key: torch.Tensor,
    *angles: torch.Tensor,
    unsqueeze_dim: int = 1,
    fast: Kernels | None = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn `query` and `key`, (1, heads, tokens, width), by the cosine and sine in `angles`.

    With an `unsqueeze_dim` of 2 they are (1, tokens, heads, width).
    """
    cos, sin = angles[:2]
    if fast is not None and unsqueeze_dim == 1 and _suits(query, cos) and _suits(key, cos):
        angle = cos[0].contiguous(), sin[0].contiguous()
        turned = (_FastRotation.apply(each, *angle, fast) for each in (query, key))  # type: ignore[no-untyped-call]
    else:
        angle = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        turned = (_Rotation.apply(each, *angle) for each in (query, key))  # type: ignore[no-untyped-call]
    return next(turned), next(turned)


def _suits(states: torch.Tensor, cos: torch.Tensor) -> bool:
    """Whether `Kernels.turn` takes both."""
    plain = states.dtype is cos.dtype is torch.float32 and states.stride(-1) == 1
    alike = cos.shape == (1, *states.shape[-2:]) and states.shape[:-3] == (1,)
    return plain and alike and states.device.type == "cpu" and cos.shape[-1] % (2 * LANES) == 0


class _Norm(torch.autograd.Function):
    """Root mean square norm. Zhang and Sennrich 2019, arXiv:1910.07467, equation 4."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        states, scale, epsilon = given
        size = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
        inverse = size.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states, inverse, scale)
        return torch.mul(states, inverse).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        states, inverse, scale = ctx.saved_tensors
        gradient = gradients[0] * scale
        along = torch.linalg.vecdot(gradient, states).unsqueeze(-1)
        along.mul_(inverse.pow(3)).div_(-states.shape[-1])
        return gradient.mul_(inverse).addcmul_(states, along), None, None


class _FastNorm(torch.autograd.Function):
    """The same as `_Norm` by kernels, of rows in one piece."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        states, scale, epsilon, fast = given
        made: torch.Tensor
        made, inverse = fast.norm(states, scale=scale, epsilon=epsilon)
        ctx.save_for_backward(states, inverse, scale)
        ctx.fast = fast
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        states, inverse, scale = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        found = ctx.fast.norm_back(gradient, states, scale=scale, inverse=inverse)
        return found, None, None, None


class _FastRotation(torch.autograd.Function):
    """The same as `_Rotation` by kernels, of one text."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        states, cos, sin, fast = given
        ctx.save_for_backward(cos, sin)
        ctx.fast = fast
        made: torch.Tensor = fast.turn(states, cos=cos, sin=sin, sign=1.0)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        cos, sin = ctx.saved_tensors
        gradient = gradients[0]
        gradient = gradient if gradient.stride(-1) == 1 else gradient.contiguous()
        return ctx.fast.turn(gradient, cos=cos, sin=sin, sign=-1.0), None, None, None


class _Rotation(torch.autograd.Function):
    """Rotary positions in halves. Su et al. 2021, arXiv:2104.09864, equation 34."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        states, cos, sin = given
        ctx.save_for_backward(cos, sin)
        return _turned(states, cos, sin=sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, sin=-sin), None, None


def _turned(states: torch.Tensor, cos: torch.Tensor, *, sin: torch.Tensor) -> torch.Tensor:
    half = states.shape[-1] // 2
    turned = states * cos
    turned[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return turned

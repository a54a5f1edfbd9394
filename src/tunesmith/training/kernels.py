"""What stands between products of bf16, in C: `kernels.c`, compiled once on each machine.

Torch takes one operation after another, each of which goes over memory once more. Each function
here goes over it once. Where there is no C compiler, or the processor is another one, torch does
it: the same but for rounding, and slower.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from tunesmith.training.compiling import load

LANES = 16
"""Numbers that are worked on together: widths are multiples of it."""


class _Part(ctypes.Structure):
    _fields_ = (
        ("frozen", ctypes.c_void_p),
        ("inner", ctypes.c_void_p),
        ("stride", ctypes.c_size_t),
        ("second", ctypes.c_void_p),
        ("ranks", ctypes.c_size_t),
        ("width", ctypes.c_size_t),
        ("bias", ctypes.c_void_p),
    )


@dataclass(frozen=True, eq=False)
class Results:
    """What a frozen layer has made of some tokens, and its adapter's share of it."""

    frozen: torch.Tensor
    """(tokens, width), bf16, without the bias; a part of wider rows."""
    inner: torch.Tensor | None
    """What the adapter's first factor has made, (tokens, ranks), bf16, of the same rows."""
    second: torch.Tensor | None
    """The adapter's second factor, as `paired` makes it; `None` without one."""
    bias: torch.Tensor | None
    """(width,), fp32; `None` for none."""

    def _part(self) -> _Part:
        ranks = 0 if self.second is None else 2 * len(self.second)
        frozen = self.frozen
        return _Part(
            frozen.data_ptr(),
            frozen.data_ptr() if self.inner is None else self.inner.data_ptr(),
            frozen.stride(0),
            _address(self.second),
            ranks,
            frozen.shape[1],
            _address(self.bias),
        )


def paired(second: torch.Tensor, scale: float) -> torch.Tensor:
    """Return an adapter's second factor, (width, ranks), as products take it.

    It is (ranks / 2, width, 2), bf16, with its `scale`: ranks are even.
    """
    scaled = (second * scale).to(torch.bfloat16)
    return scaled.view(len(second), -1, 2).transpose(0, 1).contiguous()


class Kernels:
    """The compiled functions. All tensors lie in the processor's memory, rows in one piece."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Call the functions of `library`, as `compiling.load` returns it."""
        self._library = library

    def complete(self, results: Results, *, into: torch.Tensor) -> None:
        """Write to `into`, (tokens, width), fp32, what the layer gives."""
        self._call("complete", results, len(into), into, into.stride(0))

    def gated(self, gate: Results, up: Results, *, gelu: bool, between: torch.Tensor) -> None:
        """Write act(gate) up to `between`, (tokens, width), bf16.

        What is taken of the gate is silu, or gelu as tanh comes near it.
        """
        self._call("gated", gate, up, len(between), ctypes.c_bool(gelu), between)

    def gated_back(
        self,
        gate: Results,
        up: Results,
        *,
        gelu: bool,
        between: torch.Tensor,
        gradient: torch.Tensor,
        into: torch.Tensor,
    ) -> None:
        """Do as `gated`, and write the gradients of gate and up to `into`, (tokens, 2 * width).

        `gradient` is that of `between`; both are bf16.
        """
        given = ctypes.c_bool(gelu), between, gradient, into, into.stride(0)
        self._call("gated_back", gate, up, len(between), *given)

    def norm(
        self, states: torch.Tensor, *, scale: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the root mean square norm of `states`, (..., width), fp32, scaled by `scale`.

        With it comes what each row was multiplied by, (rows,), which `norm_back` takes.
        """
        made, width = torch.empty_like(states), states.shape[-1]
        inverse = states.new_empty(states.numel() // width)
        size = ctypes.c_float(epsilon), len(inverse), width
        self._call("norm", states, scale, *size, made, inverse)
        return made, inverse

    def norm_back(
        self,
        gradient: torch.Tensor,
        states: torch.Tensor,
        *,
        scale: torch.Tensor,
        inverse: torch.Tensor,
    ) -> torch.Tensor:
        """Return the gradient of `states` from that of their norm, (..., width), fp32."""
        made = torch.empty_like(states)
        size = len(inverse), states.shape[-1]
        self._call("norm_back", gradient, states, scale, inverse, *size, made)
        return made

    def turn(
        self, states: torch.Tensor, *, cos: torch.Tensor, sin: torch.Tensor, sign: float
    ) -> torch.Tensor:
        """Return `states`, (1, heads, tokens, width), with halves turned by their angles.

        `cos` and `sin` are (tokens, width), fp32; with a `sign` of -1 they are turned back.
        """
        made, size = torch.empty_like(states), states.shape[1:]
        apart, made_apart = states.stride()[1:3], made.stride()[1:3]
        self._call("turn", states, *apart, cos, sin, ctypes.c_float(sign), *size, made, *made_apart)
        return made

    def weigh(
        self,
        scores: torch.Tensor,
        made: torch.Tensor,
        *,
        scale: float,
        queries: tuple[int, int],
        window: int | None,
    ) -> None:
        """Write to `made` the weights of `scores`, both (texts, heads * queries, keys), bf16.

        `queries` tells where a text's queries begin and end; each sees keys up to its own place,
        and with a `window` no more than so many of them.
        """
        (begin, end), keys = queries, scores.shape[-1]
        size = scores.numel() // keys, end - begin, begin, keys, window or 0
        self._call("weigh", scores, ctypes.c_float(scale), *size, made)

    def aside(
        self,
        states: torch.Tensor,
        *,
        tokens: torch.Tensor,
        into: torch.Tensor,
        absent: torch.Tensor | None,
    ) -> None:
        """Write to `into`, (texts, heads, longest, width), bf16, the `tokens` of `states`.

        `states` is (tokens, heads, width), fp32; `tokens`, int64, tells which stands where. Zeros
        are written where `absent`, bool, is true.
        """
        self._call("aside", states, *states.stride()[:2], tokens, absent, *into.shape, into)

    def losses(
        self,
        logits: torch.Tensor,
        wanted: torch.Tensor,
        *,
        bias: torch.Tensor | None,
        learning: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of the tokens `wanted` and whether each was foreseen, (tokens,).

        `logits` is (tokens, words), bf16, and `bias`, (words,), is added. With `learning`, the
        gradient of the losses takes the place of the logits. Raises `IndexError` where there is no
        such word.
        """
        if len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < logits.shape[1]:
            raise IndexError(f"The head has {logits.shape[1]} words, not {int(wanted.max()) + 1}.")
        found = wanted.new_empty(len(wanted), dtype=torch.float32)
        foreseen = wanted.new_empty(len(wanted), dtype=torch.bool)
        flag = ctypes.c_bool(learning)
        self._call("losses", logits, bias, wanted, *logits.shape, flag, found, foreseen)
        return found, foreseen

    def _call(self, name: str, *given: Any) -> None:
        function = getattr(self._library, name)
        function.restype = None
        function(*map(_passed, given))


def kernels(dtype: torch.dtype, device: torch.device) -> Kernels | None:
    """Return what works between products of `dtype` on `device`; `None` where torch is to do it."""
    return found().kernels if dtype is torch.bfloat16 and device.type == "cpu" else None


@dataclass(frozen=True)
class Found:
    """What this process has."""

    kernels: Kernels | None = None
    """The functions; `None` where they are lacking, or are for other processors."""
    lacking: str | None = None
    """What is wrong where this processor could take them, and how it is mended."""


@cache
def found() -> Found:
    """Return the functions for this processor, which are compiled at the machine's first call."""
    if platform.machine() != "x86_64" or not torch.cpu._is_avx512_bf16_supported():
        return Found()
    try:
        return Found(Kernels(load()))
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        what = f"kernels.c could not be compiled or loaded ({_reason(error)})"
        mend = "install gcc and libc6-dev, and let XDG_CACHE_HOME name a folder that is yours alone"
        return Found(lacking=f"{what}; {mend}")


def _reason(error: Exception) -> str:
    told = getattr(error, "stderr", None) or str(error)
    return str(told).strip().splitlines()[0] if str(told).strip() else type(error).__name__


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _passed(value: Any) -> Any:
    if isinstance(value, Results):
        return value._part()
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_size_t(value) if isinstance(value, int) else value

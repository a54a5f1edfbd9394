"""What stands between products of bf16, in C: `kernels.c`, compiled once on each machine.

Torch takes one operation after another, each of which goes over memory once more. Each function
here goes over it once. Where there is no C compiler, or the processor is another
one, torch does it: the same but for rounding, and slower.

`python -m tunesmith.training.kernels` compiles them beside their source, for images of machines
without a compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

LANES = 16
"""Numbers that are worked on together: widths are multiples of it."""

_SOURCE = Path(__file__).with_suffix(".c")
_MACHINE = ("-march=x86-64-v4", "-mavx512bf16")
"""The processors that the code is for, those with AVX-512 and its instructions for bf16: the same
on all nodes of a cluster, whichever compiles it."""
_FLAGS = (
    "-std=gnu11",
    "-O3",
    *_MACHINE,
    "-mprefer-vector-width=512",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fPIC",
    "-fopenmp",
)
_PATIENCE = 60
"""Seconds that the compiler is waited for."""


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

    def __init__(self, library: Path) -> None:
        """Load `library`. Raises `OSError` where it cannot be loaded."""
        self._library = ctypes.CDLL(str(library))

    def complete(self, results: Results, *, into: torch.Tensor) -> None:
        """Write to `into`, (tokens, width), fp32, what the layer gives."""
        self._call("complete", results, len(into), into, into.stride(0))

    def gated(self, gate: Results, up: Results, *, between: torch.Tensor) -> None:
        """Write silu(gate) up to `between`, (tokens, width), bf16."""
        self._call("gated", gate, up, len(between), between)

    def gated_back(
        self,
        gate: Results,
        up: Results,
        *,
        between: torch.Tensor,
        gradient: torch.Tensor,
        into: torch.Tensor,
    ) -> None:
        """Do as `gated`, and write the gradients of gate and up to `into`, (tokens, 2 * width).

        `gradient` is that of `between`; both are bf16.
        """
        given = gate, up, len(between), between, gradient, into, into.stride(0)
        self._call("gated_back", *given)

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
        gradient of the losses takes the place of the logits.
        """
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
        return Found(Kernels(_library()))
    # The last of them where the user has no home.
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        what = f"kernels.c could not be compiled ({_reason(error)})"
        mend = "install gcc and libc6-dev, and let XDG_CACHE_HOME name a folder that can be written"
        return Found(lacking=f"{what}; {mend}")


def _library() -> Path:
    """Return the compiled functions: those that came with the package, or else made here."""
    shipped = _SOURCE.with_name(_name())
    if shipped.exists():
        return shipped
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith"
    if not (kept / _name()).exists():
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        compile_into(kept)
    return kept / _name()


def compile_into(folder: Path) -> None:
    """Compile the functions into `folder`.

    Raises `OSError` where there is no compiler, `subprocess.SubprocessError` where it fails.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or "cc"
    with tempfile.TemporaryDirectory(dir=folder) as made:
        parts, whole = Path(made) / "kernels.o", Path(made) / "kernels.so"
        _run([compiler, *_FLAGS, "-c", str(_SOURCE), "-o", str(parts)])
        # OpenMP's functions are those that torch has loaded: two pools of threads would wait for
        # each other's processors.
        _run([compiler, "-shared", str(parts), "-o", str(whole), "-lm"])
        # Another process may be at it too; both make the same.
        whole.replace(folder / _name())


def _run(command: Sequence[str]) -> None:
    subprocess.run(  # noqa: S603  the compiler, and our own source
        command, check=True, capture_output=True, text=True, timeout=_PATIENCE
    )


def _name() -> str:
    told = hashlib.sha256(_SOURCE.read_bytes() + " ".join(_FLAGS).encode()).hexdigest()
    return f"kernels-{told[:16]}.so"


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


if __name__ == "__main__":
    if platform.machine() == "x86_64":
        compile_into(_SOURCE.parent)

"""Compiles `kernels.c` once on each machine, and loads what came of it.

`python -m tunesmith.training.compiling` compiles it beside the source, for images of machines
without a compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_SOURCE = Path(__file__).with_name("kernels.c")
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


def load() -> ctypes.CDLL:
    """Return the compiled functions: those that came with the package, or else made here.

    Raises `OSError` where they can neither be loaded nor made, `subprocess.SubprocessError` where
    the compiler fails, and `RuntimeError` where the user has no home to keep them in.
    """
    shipped = _SOURCE.with_name(_name())
    if shipped.exists():
        return ctypes.CDLL(str(shipped))
    folder = _folder()
    kept = folder / _name()
    if kept.exists():
        try:
            return ctypes.CDLL(str(kept))
        except OSError:
            # Cut short by a loss of power, or made on a machine with another C library.
            kept.unlink(missing_ok=True)
    compile_into(folder)
    return ctypes.CDLL(str(kept))


def compile_into(folder: Path) -> None:
    """Compile the functions into `folder`.

    Raises `OSError` where there is no compiler, `subprocess.SubprocessError` where it fails.
    """
    *others, last = _compilers()
    for compiler in others:
        try:
            _compile(compiler, folder)
        except (OSError, subprocess.SubprocessError):
            continue
        return
    _compile(last, folder)


def _compilers() -> Iterator[list[str]]:
    """Yield the commands that may be a compiler, best first."""
    found = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
    own = [os.environ["CC"]] if os.environ.get("CC") else []
    for command in own + found or ["cc"]:
        yield shlex.split(command)


def _compile(compiler: Sequence[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as made:
        parts, whole = Path(made) / "kernels.o", Path(made) / "kernels.so"
        _run([*compiler, *_FLAGS, "-c", str(_SOURCE), "-o", str(parts)])
        # OpenMP's functions are those that torch has loaded: two pools of threads would wait for
        # each other's processors.
        _run([*compiler, "-shared", str(parts), "-o", str(whole), "-lm"])
        # Another process may be at it too; both make the same.
        whole.replace(folder / _name())


def _run(command: Sequence[str]) -> None:
    subprocess.run(  # noqa: S603  the compiler, and our own source
        command, check=True, capture_output=True, text=True, timeout=_PATIENCE
    )


def _folder() -> Path:
    """Return where compiled functions are kept: nobody else may put any there."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    alone = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o022 == 0
    if found.st_uid != os.getuid() or not alone:
        raise PermissionError(f"{folder} is not this user's alone; remove it")
    return folder


def _name() -> str:
    told = hashlib.sha256(_SOURCE.read_bytes() + " ".join(_FLAGS).encode()).hexdigest()
    return f"kernels-{told[:16]}.so"


if __name__ == "__main__":
    if platform.machine() == "x86_64":
        compile_into(_SOURCE.parent)

"""Keeps a number for each token of a data file on the disk, so that memory does not bound it."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

_Number = TypeVar("_Number", np.int32, np.int8, np.bool_)


class Column:
    """Numbers that are added one behind the other, and then read wherever they are wanted.

    They lie in a file without a name, which the system removes with the process. Of what is
    read, the system keeps in memory what has room.
    """

    def __init__(self, code: Literal["i", "b"], *, folder: Path) -> None:
        """Begin with no numbers, of 32 bits (`i`) or 8 (`b`), on the disk of `folder`."""
        self._code = code
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  it lives as long as this
        self._length = 0

    def __len__(self) -> int:
        """Return how many numbers there are."""
        return self._length

    def extend(self, numbers: Iterable[int]) -> None:
        """Add `numbers` behind the others. Raises `OSError` where the disk has no room."""
        added = array(self._code, numbers)
        added.tofile(self._file)
        self._length += len(added)

    def read(self, kind: type[_Number]) -> npt.NDArray[_Number]:
        """Return all numbers, each of which is read from the disk when it is asked for.

        `kind` is a type of their size. Raises `OSError` where the disk has no room.
        """
        self._file.flush()
        if not self._length:
            return np.empty(0, dtype=kind)
        return np.memmap(self._file, dtype=kind, mode="r")

"""Keeps a number for each token of a data file on the disk, so that memory does not bound it."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.failures import FailureCode
from tunesmith.training.failures import RunFailedError

_Number = TypeVar("_Number", np.int32, np.int8, np.bool_)


class Column:
    """Numbers that are added one behind the other, and then read wherever they are wanted.

    They lie in a file without a name in the folder for temporary files (`TMPDIR`), which the
    system removes with the process. Of what is read, the system keeps in memory what has room.
    """

    def __init__(self, code: Literal["i", "b"]) -> None:
        """Begin with no numbers, of 32 bits (`i`) or 8 (`b`)."""
        self._code = code
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the column
        self._length = 0

    def __len__(self) -> int:
        """Return how many numbers there are."""
        return self._length

    def extend(self, numbers: Iterable[int]) -> None:
        """Add `numbers` behind the others. Raises `RunFailedError` where the disk has no room."""
        added = array(self._code, numbers)
        with self._writing():
            added.tofile(self._file)
        self._length += len(added)

    def read(self, kind: type[_Number]) -> npt.NDArray[_Number]:
        """Return all numbers, each of which is read from the disk when it is asked for.

        `kind` is a type of their size. Raises `RunFailedError` where the disk has no room.
        """
        with self._writing():
            self._file.flush()
        if not self._length:
            return np.empty(0, dtype=kind)
        return np.memmap(self._file, dtype=kind, mode="r")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say which disk is full, since it may be another one than that of the data folder."""
        try:
            yield
        except OSError as error:
            with suppress(OSError):
                self._file.close()
            if not disk_is_full(error):
                raise
            raise RunFailedError(
                FailureCode.DISK_FULL,
                "The disk for temporary files is full, which holds the tokens of the training file "
                "while they are learnt. Free some space on the node, or let TMPDIR name a folder "
                "with more, and create the job anew.",
            ) from error

"""The numbers of a data file's tokens lie on the disk, and are read where they are wanted."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tunesmith.domain.failures import FailureCode
from tunesmith.training.columns import Column
from tunesmith.training.failures import RunFailedError


def anonymous() -> int:
    """Bytes of this process's memory that stand for no file (`proc_pid_status(5)`)."""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


def test_what_was_added_is_read_in_its_order() -> None:
    column = Column("i")
    column.extend([3, -1])
    column.extend(iter([2**31 - 1]))

    assert len(column) == 3
    assert column.read(np.int32).tolist() == [3, -1, 2**31 - 1]
    assert column.read(np.int32)[1:].tolist() == [-1, 2**31 - 1]


def test_a_byte_is_read_as_a_number_or_as_yes_and_no() -> None:
    column = Column("b")
    column.extend([0, 1, True])

    assert column.read(np.int8).tolist() == [0, 1, 1]
    assert column.read(np.bool_).tolist() == [False, True, True]


def test_a_column_without_numbers_is_empty() -> None:
    column = Column("i")
    column.extend([])

    assert column.read(np.int32).shape == (0,)


def test_what_was_read_stays_while_more_is_added() -> None:
    column = Column("i")
    column.extend([1])
    before = column.read(np.int32)
    column.extend([2])

    assert before.tolist() == [1]
    assert column.read(np.int32).tolist() == [1, 2]


def test_numbers_cannot_be_changed() -> None:
    column = Column("i")
    column.extend([1])

    assert not column.read(np.int32).flags.writeable


def test_a_process_gives_none_of_its_own_memory_to_numbers_on_the_disk() -> None:
    column, block = Column("i"), list(range(2**16))
    before = anonymous()
    for _ in range(2**10):
        column.extend(block)
    read = column.read(np.int32)

    assert read[:: 2**16].sum() == 0
    assert len(read) == 2**26
    assert anonymous() - before < 2**24


def test_a_full_disk_is_a_failure_that_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full.open("r+b"))
    little, much = Column("i"), Column("i")
    little.extend([1])

    with pytest.raises(RunFailedError, match="let TMPDIR name") as at_end:
        little.read(np.int32)
    with pytest.raises(RunFailedError, match="let TMPDIR name"):
        much.extend(range(2**16))

    assert at_end.value.error.code is FailureCode.DISK_FULL

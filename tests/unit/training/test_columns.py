"""The numbers of a data file's tokens lie on the disk, and are read where they are wanted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tunesmith.training.columns import Column


def anonymous() -> int:
    """Bytes of this process's memory that stand for no file (`proc_pid_status(5)`)."""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


def test_what_was_added_is_read_in_its_order(tmp_path: Path) -> None:
    column = Column("i", folder=tmp_path)
    column.extend([3, -1])
    column.extend(iter([2**31 - 1]))

    assert len(column) == 3
    assert column.read(np.int32).tolist() == [3, -1, 2**31 - 1]
    assert column.read(np.int32)[1:].tolist() == [-1, 2**31 - 1]


def test_a_byte_is_read_as_a_number_or_as_yes_and_no(tmp_path: Path) -> None:
    column = Column("b", folder=tmp_path)
    column.extend([0, 1, True])

    assert column.read(np.int8).tolist() == [0, 1, 1]
    assert column.read(np.bool_).tolist() == [False, True, True]


def test_a_column_without_numbers_is_empty(tmp_path: Path) -> None:
    column = Column("i", folder=tmp_path)
    column.extend([])

    assert column.read(np.int32).shape == (0,)


def test_what_was_read_stays_while_more_is_added(tmp_path: Path) -> None:
    column = Column("i", folder=tmp_path)
    column.extend([1])
    before = column.read(np.int32)
    column.extend([2])

    assert before.tolist() == [1]
    assert column.read(np.int32).tolist() == [1, 2]


def test_numbers_cannot_be_changed(tmp_path: Path) -> None:
    column = Column("i", folder=tmp_path)
    column.extend([1])

    assert not column.read(np.int32).flags.writeable


def test_a_process_gives_none_of_its_own_memory_to_numbers_on_the_disk(tmp_path: Path) -> None:
    column, block = Column("i", folder=tmp_path), list(range(2**16))
    before = anonymous()
    for _ in range(2**10):
        column.extend(block)
    read = column.read(np.int32)

    assert read[:: 2**16].sum() == 0
    assert len(read) == 2**26
    assert anonymous() - before < 2**24


def test_its_file_has_no_name_and_outlives_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "aside"
    folder.mkdir()
    column = Column("i", folder=folder)
    column.extend([1])
    assert list(folder.iterdir()) == []
    folder.rmdir()
    column.extend([2])

    assert column.read(np.int32).tolist() == [1, 2]

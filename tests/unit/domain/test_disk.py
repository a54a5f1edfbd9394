from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tunesmith.domain.disk import Disk, disk_is_full, naming_full_disk
from tunesmith.domain.errors import DiskFullError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_without_room_is_named(number: int) -> None:
    with pytest.raises(DiskFullError) as caught, naming_full_disk():
        raise OSError(number, "No room")
    assert caught.value.message == "The service's disk is full."
    assert disk_is_full(caught.value)


@pytest.mark.parametrize("fault", [PermissionError(errno.EACCES, "No"), ValueError("No")])
def test_another_fault_stays_what_it_is(fault: Exception) -> None:
    with pytest.raises(type(fault)), naming_full_disk():
        raise fault
    assert not disk_is_full(fault)


@pytest.mark.parametrize(
    ("free", "size", "refused"),
    [(1000, 0, False), (999, 0, True), (1500, 500, False), (1500, 501, True)],
)
def test_what_would_take_the_room_that_is_kept_free_is_refused(
    free: int, size: int, refused: bool
) -> None:
    disk = Disk(Path(), floor=1000, free=lambda _: free)
    if refused:
        with pytest.raises(DiskFullError, match="min_free_bytes"):
            disk.check(size)
    else:
        disk.check(size)


def test_a_disk_without_a_floor_is_not_looked_at() -> None:
    def fail(_: Path) -> int:
        raise AssertionError

    Disk(Path(), floor=0, free=fail).check(10**18)


def test_the_disk_of_a_real_folder_is_looked_at(tmp_path: Path) -> None:
    assert Disk(tmp_path, floor=1).lack() is None
    lack = Disk(tmp_path, floor=2**62).lack()
    assert lack is not None
    assert "GiB free" in lack

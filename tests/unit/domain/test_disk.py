from __future__ import annotations

import errno

import pytest

from tunesmith.domain.disk import disk_is_full, naming_full_disk
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

"""A database that another process keeps to itself says so, and works again once it is free."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import BusyError
from tunesmith.store import database
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples


def test_a_write_that_waits_in_vain_says_when_to_try_again_and_reads_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, examples: Examples
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.02)
    store = SqlStore.open(f"sqlite:///{tmp_path / 'a.db'}", FakeClock())
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(BusyError, match=r"kept busy .* by another process") as told:
        store.add_file(examples.file("a"))
    assert (told.value.code, told.value.retry_after > 0) == ("database_busy", True)
    assert store.list_keys() == []

    other.execute("ROLLBACK")
    other.close()
    store.add_file(examples.file("a"))
    assert store.file("file-a").id == "file-a"
    store.close()

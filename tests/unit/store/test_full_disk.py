"""A database that finds no room says so, and works again once there is some."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from stores import SQLITE_ALONE
from tunesmith.domain.errors import DiskFullError, NotFoundError
from tunesmith.store.sql import SqlStore

if TYPE_CHECKING:
    from unit.store.conftest import Examples


def limit_pages(store: SqlStore, count: str) -> None:
    """Let the database grow to `count` pages, as a full disk would; it has one connection."""
    with store._engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {count}")


@SQLITE_ALONE
def test_a_write_without_room_is_a_full_disk_and_changes_nothing(
    open_store: Callable[[], SqlStore], examples: Examples
) -> None:
    store = open_store()
    limit_pages(store, "1")
    large = examples.file("a", filename="x" * 100_000)
    with pytest.raises(DiskFullError, match="disk is full"):
        store.add_file(large)
    with pytest.raises(NotFoundError):
        store.file("file-a")
    limit_pages(store, "1000000")
    store.add_file(large)
    assert store.file("file-a") == large

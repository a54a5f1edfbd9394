"""All records of one database are brought into another, whichever the two are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    NullPool,
    create_engine,
    insert,
    select,
    text,
)

from postgres import Server
from stores import SQLITE_ALONE, migrated
from tunesmith.domain.clock import FakeClock
from tunesmith.domain.errors import SettingsError
from tunesmith.store.copying import check_empty, copy_records
from tunesmith.store.database import open_database, reading, writing
from tunesmith.store.schema import revision, upgrade
from tunesmith.store.sql import SqlStore
from tunesmith.store.tables import METADATA
from unit.store.conftest import Examples

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def url(empty_url: str) -> str:
    """The URL of a database with this version's tables, which no other test has."""
    upgrade(empty_url)
    return empty_url


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of the database without tables that records are brought to."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/target.db"
        return
    server: Server = request.getfixturevalue("server")
    name = server.database()
    yield server.url(name)
    server.drop(name)


def value(column: Column[Any], number: int) -> Any:
    """Return what the row `number` has in `column`; the second has no more than it must."""
    for key in column.foreign_keys:
        return value(key.column, number)
    if number == 2 and column.nullable:
        return None
    if isinstance(column.type, JSON):
        return {"z": [0.1 + 0.2, None, 2**60], "a": f"Grüße {number}"}
    if isinstance(column.type, Boolean):
        return number == 1
    if isinstance(column.type, Double):
        return 0.1 + 0.2
    if isinstance(column.type, BigInteger) and column.name not in {"seq", "job_seq"}:
        return 2**40 + number
    if isinstance(column.type, Integer):
        return 5 + number
    return f"{column.table.name} {column.name} Ü {number}"


def fill(url: str) -> None:
    """Put two rows into each table."""
    engine = open_database(url)
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM projects"))
        for table in METADATA.sorted_tables:
            for number in (1, 2):
                row = {column.name: value(column, number) for column in table.columns}
                connection.execute(insert(table), row)
    engine.dispose()


def everything(url: str) -> Rows:
    """Return all rows of all tables, by their keys."""
    engine = open_database(url)
    with reading(engine) as connection:
        found = {
            table.name: [
                dict(each)
                for each in connection.execute(
                    select(table).order_by(*table.primary_key.columns)
                ).mappings()
            ]
            for table in METADATA.sorted_tables
        }
    engine.dispose()
    return found


def test_each_row_of_each_table_is_brought_as_it_is(url: str, target: str) -> None:
    fill(url)
    before = everything(url)
    assert all(len(rows) == 2 for rows in before.values())

    assert copy_records(url, target) == 2 * len(before)

    assert everything(target) == before
    # Equal dictionaries may differ in their order, which what is signed does not.
    assert [list(each["request"]) for each in everything(target)["jobs"]] == [["z", "a"]] * 2
    assert everything(url) == before


def test_new_rows_are_numbered_behind_the_last_though_it_is_gone(
    url: str, target: str, clock: FakeClock, examples: Examples
) -> None:
    origin = SqlStore.open(url, clock)
    for name in "abc":
        origin.add_file(examples.file(name))
    [*_, last] = everything(url)["files"]
    origin.delete_file("file-b")
    origin.delete_file("file-c")
    origin.close()

    copy_records(url, target)

    copy = SqlStore.open(target, clock)
    copy.add_file(examples.file("d"))
    copy.close()
    assert [each["seq"] > last["seq"] for each in everything(target)["files"]] == [False, True]


def test_a_database_that_is_in_use_is_left_as_it_is(
    url: str, target: str, clock: FakeClock, examples: Examples
) -> None:
    fill(url)
    used = SqlStore.open(target, clock)
    used.add_file(examples.file("a"))
    used.close()
    before = everything(target)
    for refuse in (lambda: copy_records(url, target), lambda: check_empty(target)):
        with pytest.raises(SettingsError, match="its table 'files' has 1 rows"):
            refuse()
    assert everything(target) == before


def test_a_database_of_another_schema_is_not_even_brought_forward(url: str, target: str) -> None:
    upgrade(target)
    engine = create_engine(target, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
    with pytest.raises(SettingsError, match="has schema 0005"):
        copy_records(url, target)
    assert revision(target) == "0005"


@SQLITE_ALONE
@pytest.mark.parametrize("target", ["postgresql"], indirect=True)
def test_what_cannot_be_brought_leaves_nothing_behind(url: str, target: str) -> None:
    fill(url)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET crashes = 5000000000"))
    with pytest.raises(SettingsError, match=r"tunesmith:\*\*\*@.* out of range"):
        copy_records(url, target)
    check_empty(target)


def test_rows_that_do_not_arrive_undo_all(url: str, target: str) -> None:
    fill(url)
    upgrade(target)
    engine = create_engine(target, poolclass=NullPool)
    swallow = {
        "sqlite": "CREATE TRIGGER lost BEFORE INSERT ON waits BEGIN SELECT RAISE(IGNORE); END",
        "postgresql": "CREATE RULE lost AS ON INSERT TO waits DO INSTEAD NOTHING",
    }
    with engine.begin() as connection:
        connection.execute(text(swallow[engine.dialect.name]))
    with pytest.raises(SettingsError, match="Of the 2 rows of 'waits', 0 arrived"):
        copy_records(url, target)
    check_empty(target)


@SQLITE_ALONE
def test_the_origin_that_cannot_be_read_is_the_one_that_is_named(url: str, tmp_path: Path) -> None:
    fill(url)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE waits"))
    shutil.copy(migrated(), tmp_path / "target.db")
    with pytest.raises(SettingsError, match=r"tunesmith\.db cannot be used: no such table: waits"):
        copy_records(url, f"sqlite:///{tmp_path}/target.db")

"""A PostgreSQL server of the tests' own, where Debian's package is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine


def programs() -> Path | None:
    """Return the folder of the newest server's programs; `None` where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return Path(named).parent if named else None


class Server:
    """One server, which listens on a socket in its folder alone, and the databases in it."""

    def __init__(self, folder: Path, control: Sequence[str | Path]) -> None:
        self.folder = folder
        self._control = control
        self._numbers = count(1)
        self._engine: Engine = create_engine(
            self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )

    def url(self, name: str) -> str:
        """Return the URL of the database `name`, with a password that the server ignores."""
        return f"postgresql+psycopg://tunesmith:p%40ssword-1@/{name}?host={self.folder}"

    def database(self, template: str = "template1") -> str:
        """Make a database, a copy of `template`, and return its name."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is in it."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        """Break all connections off, and answer none until `start`."""
        _run([*self._control, "-m", "fast", "stop"], folder=self.folder)

    def start(self) -> None:
        """Answer, from now on or again."""
        # What is lost with the machine's power is no matter of these tests.
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        _run([*self._control, "-o", options, "start"], folder=self.folder)

    def run(self, statement: str) -> None:
        """Carry out one statement outside of transactions."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql(statement)


@contextmanager
def server(binaries: Path) -> Iterator[Server]:
    """Run a server while the block lasts. It refuses to be root's, so it is another user's then."""
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    made: list[str | Path] = [
        binaries / "initdb",
        "--pgdata",
        folder / "data",
        "--username",
        "tunesmith",
    ]
    made += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
    _run(made, folder=folder)
    control: list[str | Path] = [
        binaries / "pg_ctl",
        "-D",
        folder / "data",
        "-w",
        "-s",
        "-l",
        folder / "log",
    ]
    running = Server(folder, control)
    running.start()
    try:
        yield running
    finally:
        _run([*control, "-m", "immediate", "stop"], folder=folder)
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: Sequence[str | Path], *, folder: Path) -> None:
    """Run `command` in `folder`, as the user whom that belongs to."""
    owner = folder.stat()
    other: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    user = other if owner.st_uid != os.geteuid() else {}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)


@contextmanager
def server_or_skip() -> Iterator[Server]:
    """Run a server while the block lasts; without an installed one, skip the test."""
    binaries = programs()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    with server(binaries) as running:
        yield running

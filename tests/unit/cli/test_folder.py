from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.cli.database import open_store
from tunesmith.cli.folder import open_folder, sharing
from tunesmith.domain.errors import FolderInUseError, SettingsError


def test_a_new_data_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "a" / "b")

    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0


def test_nobody_else_can_read_the_database_of_a_folder_that_others_can_list(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    store = open_store(tmp_path)
    store.list_keys()

    databases = sorted(tmp_path.glob("tunesmith.db*"))
    assert [path.name for path in databases][1:] == ["tunesmith.db-shm", "tunesmith.db-wal"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in databases)
    store.close()


def test_a_look_at_a_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    assert list(open_folder(tmp_path / "data").iterdir()) == []


def test_a_data_folder_that_cannot_be_made_is_refused_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="--data"):
        open_folder(tmp_path / "file")


@pytest.fixture
def emptier(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the folder to itself."""
    program = (
        "import fcntl, sys\n"
        "lock = open(sys.argv[1], 'a')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "serve.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_services_share_a_folder(tmp_path: Path) -> None:
    with sharing(tmp_path, patience=0), sharing(tmp_path, patience=0):
        pass


def test_a_folder_that_another_has_to_itself_is_refused_and_free_after_its_death(
    tmp_path: Path, emptier: subprocess.Popen[str]
) -> None:
    with (
        pytest.raises(FolderInUseError, match=f"'{tmp_path}' to itself.*--data"),
        sharing(tmp_path, patience=0),
    ):
        pass

    emptier.kill()
    emptier.wait()

    with sharing(tmp_path, patience=0):
        pass

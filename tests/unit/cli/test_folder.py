from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.cli.database import open_store
from tunesmith.cli.folder import holding, open_folder
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


def test_a_second_holder_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with (
        holding(tmp_path / "lock", patience=0),
        pytest.raises(FolderInUseError, match=rf"process {os.getpid()}"),
        holding(tmp_path / "lock", patience=0),
    ):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from tunesmith.cli.folder import holding\n"
        "with holding(pathlib.Path(sys.argv[1]), patience=0):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(FolderInUseError), holding(tmp_path / "lock", patience=0):
        pass

    child.kill()
    child.wait()
    child.stdout.close()
    child.stdin.close()

    with holding(tmp_path / "lock", patience=0):
        assert (tmp_path / "lock").read_text() == str(os.getpid())

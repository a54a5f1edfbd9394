"""Where base models come from, and what is said when they do not come."""

from __future__ import annotations

import errno
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.errors import DiskFullError
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import CatalogueEntry, FolderSource, HubSource, PackageSource, Source
from tunesmith.training import base_model
from tunesmith.training.adapter import load_tokenizer
from tunesmith.training.base_model import BaseModel, bring
from tunesmith.training.failures import RunFailedError, explain, naming_memory

if TYPE_CHECKING:
    from pathlib import Path

    from unit.training.conftest import Bench


def entry(source: Source) -> CatalogueEntry:
    return CatalogueEntry(name="org/tiny", source=source)


def failure(bench: Bench, source: Source) -> str:
    with pytest.raises(RunFailedError) as raised:
        bring(entry(source), bench.artifacts, announce=print)
    assert raised.value.error.code is FailureCode.MODEL_UNAVAILABLE
    assert raised.value.error.param == "model"
    return raised.value.message


def test_a_folder_is_used_where_it_is(bench: Bench) -> None:
    found = bring(entry(FolderSource(path=bench.base)), bench.artifacts, announce=print)

    assert found == BaseModel(folder=bench.base, reference=str(bench.base))


def test_a_folder_without_a_model_is_named(bench: Bench, tmp_path: Path) -> None:
    assert str(tmp_path / "none") in failure(bench, FolderSource(path=tmp_path / "none"))


def test_a_model_of_the_hub_is_named_by_its_id_and_commit(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}
    snapshot = tmp_path / "snapshots" / ("0a" * 20)

    def fetch(repo: str, **options: object) -> str:
        asked.update(options, repo=repo)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    source = HubSource(repo="org/tiny", revision="v1", offline=True)

    found = bring(entry(source), bench.artifacts, announce=print)

    assert found == BaseModel(folder=snapshot, reference="org/tiny", revision="0a" * 20)
    assert (asked["repo"], asked["revision"], asked["local_files_only"]) == ("org/tiny", "v1", True)


def test_a_model_that_the_offline_cache_lacks_is_told_with_the_mend(bench: Bench) -> None:
    message = failure(bench, HubSource(repo="nobody/nothing-at-all", offline=True))

    assert "nobody/nothing-at-all (main) cannot be fetched" in message
    assert "hub cache" in message


def test_a_package_that_is_missing_is_named(bench: Bench) -> None:
    assert "'no_such_package' is not installed" in failure(
        bench, PackageSource(package="no_such_package", file="a.gguf")
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "packages" / "tiny_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "bad.gguf").write_bytes(b"this is no GGUF file at all, but long enough")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder.name


def test_a_package_is_located_without_being_imported(bench: Bench, package: str) -> None:
    message = failure(bench, PackageSource(package=package, file="none.gguf"))

    assert "holds no file 'none.gguf'" in message
    assert package not in sys.modules


def test_a_file_that_is_no_gguf_is_told(bench: Bench, package: str) -> None:
    assert "bad.gguf" in failure(bench, PackageSource(package=package, file="bad.gguf"))


def test_two_runs_that_prepare_the_same_model_do_each_other_no_harm(
    bench: Bench, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PackageSource(package=package, file="bad.gguf")

    def convert(weights: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")

    put_folder = bench.artifacts.put_folder

    def lose_the_race(prefix: str, folder: Path) -> None:
        put_folder(prefix, folder)
        raise OSError(errno.ENOTEMPTY, "the other run was first")

    monkeypatch.setattr(base_model, "_convert", convert)
    monkeypatch.setattr(bench.artifacts, "put_folder", lose_the_race)
    said: list[str] = []

    first = bring(entry(source), bench.artifacts, announce=said.append)
    again = bring(entry(source), bench.artifacts, announce=said.append)

    assert first == again
    assert first.folder.parent == bench.root / "models"
    assert said == ["Preparing base model org/tiny from the package tiny_weights"]


def test_a_model_is_prepared_on_the_disk_that_keeps_it(
    bench: Bench, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes: list[int] = []

    def convert(weights: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        inodes.append((folder / "config.json").stat().st_ino)

    monkeypatch.setattr(base_model, "_convert", convert)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    source = PackageSource(package=package, file="bad.gguf")
    found = bring(entry(source), bench.artifacts, announce=print)

    assert [(found.folder / "config.json").stat().st_ino] == inodes, "moved, not copied"


def test_a_folder_without_tokenizer_is_told(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    with pytest.raises(RunFailedError, match="its tokenizer cannot be loaded"):
        load_tokenizer(
            entry(FolderSource(path=tmp_path)), BaseModel(folder=tmp_path, reference="x")
        )


def test_a_full_disk_has_a_code_of_its_own() -> None:
    assert explain(OSError(errno.ENOSPC, "no room")).code is FailureCode.DISK_FULL
    assert explain(DiskFullError()).code is FailureCode.DISK_FULL


def test_anything_unforeseen_is_told_by_type_and_message() -> None:
    error = explain(KeyError("x"))

    assert error.code is FailureCode.INTERNAL_ERROR
    assert error.message == "Training ended with KeyError: 'x'"


def test_a_lack_of_memory_names_a_smaller_setting(bench: Bench) -> None:
    spec = bench.write_spec([])

    with (
        pytest.raises(RunFailedError, match="Set precision to bf16") as raised,
        naming_memory(spec),
    ):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")

    assert raised.value.error.code is FailureCode.OUT_OF_MEMORY
    assert raised.value.error.change == {"precision": "bf16"}


def test_other_errors_are_not_taken_for_a_lack_of_memory(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match="shapes"), naming_memory(bench.write_spec([])):
        raise RuntimeError("shapes do not match")

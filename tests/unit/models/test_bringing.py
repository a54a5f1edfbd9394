"""Where base models come from, and what is said when they do not come."""

from __future__ import annotations

import errno
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from models.tiny import save_tiny_llama
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.domain.errors import ModelUnavailableError
from tunesmith.domain.models import CatalogueEntry, FolderSource, HubSource, PackageSource, Source
from tunesmith.models import bringing
from tunesmith.models.bringing import BaseModel, bring

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def artifacts(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "data")


def entry(source: Source) -> CatalogueEntry:
    return CatalogueEntry(name="org/tiny", source=source)


def failure(artifacts: LocalArtifacts, source: Source) -> str:
    with pytest.raises(ModelUnavailableError) as raised:
        bring(entry(source), artifacts, announce=print)
    return raised.value.message


def test_a_folder_is_used_where_it_is(artifacts: LocalArtifacts, tmp_path: Path) -> None:
    save_tiny_llama(tmp_path / "llama")

    found = bring(entry(FolderSource(path=tmp_path / "llama")), artifacts, announce=print)

    assert found == BaseModel(folder=tmp_path / "llama", reference=str(tmp_path / "llama"))


def test_a_folder_without_a_model_is_named(artifacts: LocalArtifacts, tmp_path: Path) -> None:
    assert str(tmp_path / "none") in failure(artifacts, FolderSource(path=tmp_path / "none"))


def test_a_model_of_the_hub_is_named_by_its_id_and_commit(
    artifacts: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}
    snapshot = tmp_path / "snapshots" / ("0a" * 20)

    def fetch(repo: str, **options: object) -> str:
        asked.update(options, repo=repo)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    source = HubSource(repo="org/tiny", revision="v1", offline=True)

    found = bring(entry(source), artifacts, announce=print)

    assert found == BaseModel(folder=snapshot, reference="org/tiny", revision="0a" * 20)
    assert (asked["repo"], asked["revision"], asked["local_files_only"]) == ("org/tiny", "v1", True)


def test_a_model_that_the_offline_cache_lacks_is_told_with_the_mend(
    artifacts: LocalArtifacts,
) -> None:
    message = failure(artifacts, HubSource(repo="nobody/nothing-at-all", offline=True))

    assert "nobody/nothing-at-all (main) cannot be fetched" in message
    assert "hub cache" in message


def test_a_package_that_is_missing_is_named(artifacts: LocalArtifacts) -> None:
    assert "'no_such_package' is not installed" in failure(
        artifacts, PackageSource(package="no_such_package", file="a.gguf")
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "packages" / "tiny_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "bad.gguf").write_bytes(b"this is no GGUF file at all, but long enough")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder.name


def test_a_package_is_located_without_being_imported(
    artifacts: LocalArtifacts, package: str
) -> None:
    message = failure(artifacts, PackageSource(package=package, file="none.gguf"))

    assert "holds no file 'none.gguf'" in message
    assert package not in sys.modules


def test_a_file_that_is_no_gguf_is_told(artifacts: LocalArtifacts, package: str) -> None:
    assert "bad.gguf" in failure(artifacts, PackageSource(package=package, file="bad.gguf"))


def test_two_runs_that_prepare_the_same_model_do_each_other_no_harm(
    artifacts: LocalArtifacts, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PackageSource(package=package, file="bad.gguf")

    def convert(weights: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")

    put_folder = artifacts.put_folder

    def lose_the_race(prefix: str, folder: Path) -> None:
        put_folder(prefix, folder)
        raise OSError(errno.ENOTEMPTY, "the other run was first")

    monkeypatch.setattr(bringing, "_convert", convert)
    monkeypatch.setattr(artifacts, "put_folder", lose_the_race)
    said: list[str] = []

    first = bring(entry(source), artifacts, announce=said.append)
    again = bring(entry(source), artifacts, announce=said.append)

    assert first == again
    assert first.folder.parent == tmp_path / "data" / "models"
    assert said == ["Preparing base model org/tiny from the package tiny_weights"]


def test_a_model_is_prepared_on_the_disk_that_keeps_it(
    artifacts: LocalArtifacts, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes: list[int] = []

    def convert(weights: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        inodes.append((folder / "config.json").stat().st_ino)

    monkeypatch.setattr(bringing, "_convert", convert)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    source = PackageSource(package=package, file="bad.gguf")
    found = bring(entry(source), artifacts, announce=print)

    assert [(found.folder / "config.json").stat().st_ino] == inodes, "moved, not copied"

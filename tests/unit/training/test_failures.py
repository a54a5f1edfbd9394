"""What a client is told where a run cannot go on."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.errors import DiskFullError, ModelUnavailableError
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.models.bringing import BaseModel
from tunesmith.training.adapter import load_tokenizer
from tunesmith.training.failures import RunFailedError, explain, naming_memory

if TYPE_CHECKING:
    from pathlib import Path

    from unit.training.conftest import Bench


def test_a_model_that_cannot_be_had_is_the_requests_matter() -> None:
    error = explain(ModelUnavailableError("no weights"))

    assert (error.code, error.param) == (FailureCode.MODEL_UNAVAILABLE, "model")
    assert error.message == "no weights"


def test_a_folder_without_tokenizer_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    entry = CatalogueEntry(name="org/tiny", source=FolderSource(path=tmp_path))
    with pytest.raises(ModelUnavailableError, match="its tokenizer cannot be loaded"):
        load_tokenizer(entry, BaseModel(folder=tmp_path, reference="x"))


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

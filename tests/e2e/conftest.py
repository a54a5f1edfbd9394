from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.service import Service, running
from models.tiny import save_tiny_llama


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of a few thousand weights, in a folder."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_llama(folder)
    return folder


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Service]:
    """A service that all tests of a session share, with the models `tiny` and SmolLM2."""
    data = new_data(tmp_path_factory.mktemp("service"), tiny_model)
    with running(data) as service:
        yield service


@pytest.fixture
def own_service(tmp_path: Path, tiny_model: Path) -> Iterator[Service]:
    """A service for one test, which may kill it."""
    with running(new_data(tmp_path, tiny_model)) as service:
        yield service


def new_data(folder: Path, tiny_model: Path) -> Path:
    data = folder / "data"
    data.mkdir()
    settings = f'[models.tiny]\nsource = {{ kind = "folder", path = "{tiny_model}" }}\n'
    (data / "settings.toml").write_text(settings)
    return data

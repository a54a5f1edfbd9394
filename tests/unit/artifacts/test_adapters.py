"""The shape of a saved adapter is read from the config that peft writes beside its weights."""

from __future__ import annotations

import json

import pytest

from tunesmith.artifacts.adapters import adapter_shape
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.domain.errors import ArtifactMissingError
from tunesmith.domain.spec import LoraSpec


def test_an_adapters_shape_is_that_of_its_config() -> None:
    artifacts = MemoryArtifacts()
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.25,
        "target_modules": ["v", "q"],
        "use_rslora": True,
        "use_dora": False,
    }
    artifacts.put("output/job/adapter_config.json", json.dumps(config).encode())
    assert adapter_shape(artifacts, "output/job") == LoraSpec(
        rank=4, alpha=8, dropout=0.25, targets=("q", "v"), rslora=True
    )
    with pytest.raises(ArtifactMissingError):
        adapter_shape(artifacts, "output/other")

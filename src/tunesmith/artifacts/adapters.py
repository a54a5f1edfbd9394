"""The shape of an adapter that was saved, as the config beside its weights tells it."""

from __future__ import annotations

from pydantic import BaseModel

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.spec import LoraSpec


class _Config(BaseModel):
    """What matters here of peft's `adapter_config.json`."""

    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: list[str]
    use_rslora: bool
    use_dora: bool


def adapter_shape(artifacts: Artifacts, prefix: str) -> LoraSpec:
    """Return the shape of the adapter below `prefix`. Raises `ArtifactMissingError`."""
    config = _Config.model_validate_json(artifacts.get(f"{prefix}/adapter_config.json"))
    return LoraSpec(
        rank=config.r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        targets=tuple(sorted(config.target_modules)),
        rslora=config.use_rslora,
        dora=config.use_dora,
    )

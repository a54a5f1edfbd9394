"""OpenAI's `integrations`: services that are told of a run's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from tunesmith.domain.spec import WandbIntegration
from tunesmith.protocol.wire import Wire

Label = Annotated[str, Field(min_length=1, max_length=128)]
"""A name at Weights & Biases, 1 to 128 characters."""


Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=50)]
"""Labels at Weights & Biases."""


class WandbObject(Wire):
    """Where Weights & Biases shows the run."""

    project: Label
    """The project that the run belongs to, 1 to 128 characters."""
    name: Label | None = None
    """The run's display name; null means the job's id."""
    entity: Label | None = None
    """Team or user that the run belongs to; null means that of the API key."""
    tags: Tags = Field(default_factory=list)
    """Tags besides the default ones: up to 50 of up to 64 characters."""


class IntegrationObject(Wire):
    """A service that is told of the run's metrics."""

    type: Literal["wandb"]
    """The service; `wandb` only."""
    wandb: WandbObject
    """Settings of Weights & Biases."""

    def to_spec(self) -> WandbIntegration:
        """Return the integration in domain terms."""
        given = self.wandb
        return WandbIntegration(
            project=given.project, name=given.name, entity=given.entity, tags=tuple(given.tags)
        )

    @classmethod
    def list_to_wire(cls, integrations: Sequence[WandbIntegration]) -> list[Self]:
        """Return `integrations` as clients see them."""
        return [
            cls(
                type="wandb",
                wandb=WandbObject(
                    project=each.project, name=each.name, entity=each.entity, tags=list(each.tags)
                ),
            )
            for each in integrations
        ]


Integrations = Annotated[list[IntegrationObject], Field(max_length=5)] | None
"""Up to five integrations, or null."""


def asked_integrations(given: list[IntegrationObject] | None) -> tuple[WandbIntegration, ...]:
    """Return the integrations that a request asks for."""
    return tuple(each.to_spec() for each in given or ())

"""Where a run's metrics are shown besides the service itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from tunesmith.domain.values import Value

MOST_INTEGRATIONS = 5
"""The most integrations that a job may ask for, as with OpenAI."""


class WandbIntegration(Value):
    """Weights & Biases shows the run's metrics."""

    type: Literal["wandb"] = "wandb"
    """The service."""
    project: Annotated[str, Field(min_length=1, max_length=128)]
    """The project that the run belongs to."""
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The run's display name; `None` means the job's id."""
    entity: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Team or user that the run belongs to; `None` means that of the API key."""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Tags besides the default ones."""


class TensorboardIntegration(Value):
    """The run directory holds the metrics as files that TensorBoard shows."""

    type: Literal["tensorboard"] = "tensorboard"
    """The service."""


class MlflowIntegration(Value):
    """An MLflow server shows the run's metrics."""

    type: Literal["mlflow"] = "mlflow"
    """The service."""
    experiment: Annotated[str, Field(min_length=1, max_length=500)]
    """The experiment that the run belongs to; it is made where there is none of this name."""
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The run's display name; `None` means the job's id."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags besides the default ones."""
    tracking_uri: str | None = None
    """The server; `None` means the one that the environment of the node names. No client says it:
    the node's credentials would go there."""


def _kind(value: Any) -> str:
    """Return the kind of an integration; what was kept before there were several names none."""
    kind = value.get("type", "wandb") if isinstance(value, dict) else value.type
    return str(kind)


Integration = Annotated[
    Annotated[WandbIntegration, Tag("wandb")]
    | Annotated[TensorboardIntegration, Tag("tensorboard")]
    | Annotated[MlflowIntegration, Tag("mlflow")],
    Discriminator(_kind),
]
"""A service that is told of a run's metrics."""


class Tracking(Value):
    """What the operator has settled of where runs are shown."""

    of_every_job: tuple[Integration, ...] = ()
    """Services that are told of every job, whatever it asks for."""
    mlflow_tracking_uri: str | None = None
    """The MLflow server; `None` means the one that the environment of the node names."""

    def integrations(self, asked: tuple[Integration, ...]) -> tuple[Integration, ...]:
        """Return the services of a job that has `asked` for some, each place but once."""
        places = {_place(each) for each in asked}
        further = (each for each in self.of_every_job if _place(each) not in places)
        return tuple(self._resolved(each) for each in (*asked, *further))

    def _resolved(self, integration: Integration) -> Integration:
        if not isinstance(integration, MlflowIntegration):
            return integration
        return integration.model_copy(update={"tracking_uri": self.mlflow_tracking_uri})


NOT_TRACKED = Tracking()
"""Runs are shown where jobs ask for it, and nowhere else."""


def _place(integration: Integration) -> tuple[str, str | None, str]:
    match integration:
        case WandbIntegration():
            return integration.type, integration.entity, integration.project
        case TensorboardIntegration():
            return integration.type, None, ""
        case MlflowIntegration():
            return integration.type, None, integration.experiment

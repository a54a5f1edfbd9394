"""OpenAI's `integrations`: services that are told of a run's metrics.

`wandb` is OpenAI's own; `tensorboard` and `mlflow` are ours, of the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from tunesmith.domain.tracking import (
    MOST_INTEGRATIONS,
    Integration,
    MlflowIntegration,
    TensorboardIntegration,
    WandbIntegration,
)
from tunesmith.protocol.wire import Wire

Label = Annotated[str, Field(min_length=1, max_length=128)]
"""A name, 1 to 128 characters."""


Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=50)]
"""Labels at Weights & Biases."""

_OWN_TAGS = "tunesmith."
"""How the names begin of the tags that the service itself gives a run at MLflow."""


def _not_own(tags: dict[str, str]) -> dict[str, str]:
    own = next((name for name in tags if name.startswith(_OWN_TAGS)), None)
    if own is not None:
        raise PydanticCustomError(
            "own_tag",
            "must have no name that begins with '{prefix}', as the service's own do",
            {"prefix": _OWN_TAGS},
        )
    return tags


NamedTags = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./ -]{0,249}$")],
        Annotated[str, Field(max_length=5000)],
    ],
    Field(max_length=50),
    AfterValidator(_not_own),
]
"""Tags at MLflow, each with a name of 1 to 250 letters, digits, `_`, `-`, `.`, `/` and blanks."""


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


class WandbIntegrationObject(Wire):
    """Weights & Biases is told of the run's metrics."""

    type: Literal["wandb"]
    """The service."""
    wandb: WandbObject
    """Settings of Weights & Biases."""

    def to_spec(self) -> WandbIntegration:
        """Return the integration in domain terms."""
        given = self.wandb
        return WandbIntegration(
            project=given.project, name=given.name, entity=given.entity, tags=tuple(given.tags)
        )


class TensorboardObject(Wire):
    """Settings of TensorBoard; it has none."""


class TensorboardIntegrationObject(Wire):
    """The run directory holds the run's metrics as files that TensorBoard shows."""

    type: Literal["tensorboard"]
    """The service."""
    tensorboard: TensorboardObject = TensorboardObject()
    """Settings of TensorBoard; it has none."""

    def to_spec(self) -> TensorboardIntegration:
        """Return the integration in domain terms."""
        return TensorboardIntegration()


class MlflowObject(Wire):
    """Where MLflow shows the run; the server is the operator's."""

    experiment: Annotated[str, Field(min_length=1, max_length=500)]
    """The experiment that the run belongs to, 1 to 500 characters; it is made if need be."""
    name: Label | None = None
    """The run's display name; null means the job's id."""
    tags: NamedTags = Field(default_factory=dict)
    """Tags besides the default ones: up to 50, each of up to 5,000 characters."""


class MlflowIntegrationObject(Wire):
    """MLflow is told of the run's metrics."""

    type: Literal["mlflow"]
    """The service."""
    mlflow: MlflowObject
    """Settings of MLflow."""

    def to_spec(self) -> MlflowIntegration:
        """Return the integration in domain terms."""
        given = self.mlflow
        return MlflowIntegration(experiment=given.experiment, name=given.name, tags=given.tags)


class _Typed(BaseModel):
    """What tells the shapes apart."""

    type: Literal["wandb", "tensorboard", "mlflow"]


_SHAPES: dict[
    str,
    type[WandbIntegrationObject | TensorboardIntegrationObject | MlflowIntegrationObject],
] = {
    "wandb": WandbIntegrationObject,
    "tensorboard": TensorboardIntegrationObject,
    "mlflow": MlflowIntegrationObject,
}


def _read(value: Any, _: ValidatorFunctionWrapHandler) -> Wire:
    """Read `value` as the shape that its type names, so that errors name no shape but places."""
    if isinstance(value, Wire):
        return value
    return _SHAPES[_Typed.model_validate(value).type].model_validate(value)


IntegrationObject = Annotated[
    WandbIntegrationObject | TensorboardIntegrationObject | MlflowIntegrationObject,
    WrapValidator(_read),
]
"""A service that is told of the run's metrics."""


Integrations = Annotated[list[IntegrationObject], Field(max_length=MOST_INTEGRATIONS)] | None
"""Up to five integrations, or null."""


def asked_integrations(given: list[IntegrationObject] | None) -> tuple[Integration, ...]:
    """Return the integrations that a request asks for."""
    return tuple(each.to_spec() for each in given or ())


def integrations_to_wire(integrations: Sequence[Integration]) -> list[IntegrationObject]:
    """Return `integrations` as clients see them."""
    return [_to_wire(each) for each in integrations]


def _to_wire(integration: Integration) -> IntegrationObject:
    match integration:
        case WandbIntegration(project=project, name=name, entity=entity, tags=tags):
            shown = WandbObject(project=project, name=name, entity=entity, tags=list(tags))
            return WandbIntegrationObject(type="wandb", wandb=shown)
        case TensorboardIntegration():
            return TensorboardIntegrationObject(type="tensorboard")
        case MlflowIntegration(experiment=experiment, name=name, tags=labels):
            named = MlflowObject(experiment=experiment, name=name, tags=labels)
            return MlflowIntegrationObject(type="mlflow", mlflow=named)

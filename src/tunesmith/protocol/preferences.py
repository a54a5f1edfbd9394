"""Our own options of a job that tunes on pairs: `tuning.preference`, as given and as shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.preferences import Ipo, Kto, Orpo, Preference, Sigmoid, Simpo
from tunesmith.protocol.wire import Wire

Loss = Literal["sigmoid", "ipo", "kto", "orpo", "simpo"]
"""Names of the losses."""

Weight = Annotated[float, Field(gt=0, le=100)]
"""A weight above 0, at most 100."""

_SHAPES: dict[str, type[Sigmoid | Ipo | Kto | Orpo | Simpo]] = {
    "sigmoid": Sigmoid,
    "ipo": Ipo,
    "kto": Kto,
    "orpo": Orpo,
    "simpo": Simpo,
}


class PreferenceRequest(Wire):
    """The loss that learns from pairs, for the method `dpo` alone."""

    loss: Loss = "sigmoid"
    """DPO's own `sigmoid` (arXiv:2305.18290), `ipo` (arXiv:2310.12036) or `kto` (arXiv:2402.01306),
    which hold the model to its reference by `method.dpo.hyperparameters.beta`; `orpo`
    (arXiv:2403.07691) or `simpo` (arXiv:2405.14734), which have no reference."""
    desirable_weight: Weight | None = None
    """With `kto`: weight of the preferred answers' losses; null means 1."""
    undesirable_weight: Weight | None = None
    """With `kto`: weight of the other answers' losses; null means 1."""
    odds_weight: Annotated[float, Field(ge=0, le=100)] | None = None
    """With `orpo`: weight of the odds beside the likelihood, the paper's lambda; null means 0.1."""
    scale: Weight | None = None
    """With `simpo`: factor on the mean log-probabilities, the paper's beta; null means 2."""
    gamma: Annotated[float, Field(ge=0, le=100)] | None = None
    """With `simpo`: nats by which the preferred answer's reward is to lead; null means 1."""

    def to_domain(self) -> Preference:
        """Return the loss in domain terms.

        Raises `InvalidRequestError` for a setting that the loss does not have.
        """
        shape = _SHAPES[self.loss]
        given = self.model_dump(exclude={"loss"}, exclude_none=True)
        foreign = next((key for key in given if key not in shape.model_fields), None)
        if foreign is not None:
            own = [f"'{key}'" for key in shape.model_fields if key != "loss"]
            raise InvalidRequestError(
                f"'tuning.preference.{foreign}' is given, but the loss '{self.loss}' has no such "
                f"setting; {'it has ' + ' and '.join(own) if own else 'it has none'}. Leave the "
                "one out or choose another loss.",
                param=f"tuning.preference.{foreign}",
            )
        return shape(**given)


class PreferenceObject(Wire):
    """The loss that learns from pairs, with its own settings; those of other losses are null."""

    loss: Loss
    """The loss."""
    desirable_weight: float | None = None
    """With `kto`: weight of the preferred answers' losses."""
    undesirable_weight: float | None = None
    """With `kto`: weight of the other answers' losses."""
    odds_weight: float | None = None
    """With `orpo`: weight of the odds beside the likelihood."""
    scale: float | None = None
    """With `simpo`: factor on the mean log-probabilities."""
    gamma: float | None = None
    """With `simpo`: nats by which the preferred answer's reward is to lead."""

    @classmethod
    def to_wire(cls, preference: Preference) -> PreferenceObject:
        """Return the loss as clients see it."""
        shown: dict[str, Any] = preference.model_dump()
        return cls(**shown)

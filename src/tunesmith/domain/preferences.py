"""The losses that learn from pairs of a preferred and another answer, and their own settings.

Three hold the model to how it was before the first step, the reference, by the
hyperparameter `beta`; two have no reference, and so make no pass over the data
before they begin. `tunesmith.training` has a file for each.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.values import Value

PREFERENCE_BETA = 0.1
"""How closely the first three losses hold the model to the reference, as DPO's authors do."""


class Sigmoid(Value):
    """DPO's own: the logistic loss of a pair's margin. arXiv:2305.18290, equation 7."""

    loss: Literal["sigmoid"] = "sigmoid"
    """The loss's name."""


class Ipo(Value):
    """The square of what a pair's margin lacks to its goal. arXiv:2310.12036, equation 17."""

    loss: Literal["ipo"] = "ipo"
    """The loss's name."""


class Kto(Value):
    """How far an answer's worth is from the most it can be. arXiv:2402.01306, equation 8."""

    loss: Literal["kto"] = "kto"
    """The loss's name."""
    desirable_weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Weight of the preferred answers' losses."""
    undesirable_weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Weight of the other answers' losses."""


class Orpo(Value):
    """Likelihood of the preferred answer, and its odds over the other. arXiv:2403.07691."""

    loss: Literal["orpo"] = "orpo"
    """The loss's name."""
    odds_weight: Annotated[float, Field(ge=0, le=100)] = 0.1
    """Weight of the odds beside the likelihood: the paper's lambda."""


class Simpo(Value):
    """The logistic loss of the difference in likelihood by token. arXiv:2405.14734, equation 6."""

    loss: Literal["simpo"] = "simpo"
    """The loss's name."""
    scale: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Factor on the mean log-probabilities: the paper's beta."""
    gamma: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Nats by which the preferred answer is to lead."""


Preference = Annotated[Sigmoid | Ipo | Kto | Orpo | Simpo, Field(discriminator="loss")]
"""A loss by its name, with its own settings and no others."""

Referenced = Sigmoid | Ipo | Kto
"""Those that hold the model to the reference by `beta`."""

"""Which objective learns by which loss of pairs."""

from __future__ import annotations

from tunesmith.domain import preferences
from tunesmith.domain.spec import TrainSpec
from tunesmith.training.dpo import Dpo
from tunesmith.training.ipo import Ipo
from tunesmith.training.kto import Kto
from tunesmith.training.objective import Objective
from tunesmith.training.orpo import Orpo
from tunesmith.training.simpo import Simpo


def needs_reference(spec: TrainSpec) -> bool:
    """Tell whether the loss of `spec` compares with the model before the first step."""
    return isinstance(spec.preference, preferences.Referenced)


def preference_objective(spec: TrainSpec) -> Objective:
    """Return the objective of `spec`, which tunes on pairs and is frozen with all it needs."""
    loss = spec.preference
    if isinstance(loss, preferences.Orpo):
        return Orpo(loss.odds_weight)
    if isinstance(loss, preferences.Simpo):
        return Simpo(loss.scale, loss.gamma)
    if loss is None or spec.beta is None:
        raise ValueError("The spec tunes on pairs, but does not say by which loss.")
    match loss:
        case preferences.Sigmoid():
            return Dpo(spec.beta)
        case preferences.Ipo():
            return Ipo(spec.beta)
        case preferences.Kto():
            return Kto(spec.beta, loss.desirable_weight, loss.undesirable_weight)

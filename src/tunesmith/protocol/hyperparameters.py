"""The three hyperparameters that both dialects share, as requests give and answers show them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.hyperparameters import has_reference
from tunesmith.domain.jobs import Job
from tunesmith.domain.spec import LEARNING_RATES, MULTIPLIERS
from tunesmith.protocol.wire import Wire, expecting


def _auto_is_none(value: object) -> object:
    return None if value == "auto" else value


_AUTO = BeforeValidator(_auto_is_none, json_schema_input_type=Literal["auto"] | float | None)

Epochs = Annotated[
    Annotated[int, Field(ge=1, le=50)] | None,
    _AUTO,
    expecting('"auto" or an integer from 1 to 50'),
]
"""`"auto"` or 1 to 50 epochs."""

BatchSize = Annotated[
    Annotated[int, Field(ge=1, le=256)] | None,
    _AUTO,
    expecting('"auto" or an integer from 1 to 256'),
]
"""`"auto"` or 1 to 256 examples."""

Multiplier = Annotated[
    Annotated[float, Field(ge=MULTIPLIERS[0], le=MULTIPLIERS[1])] | None,
    _AUTO,
    expecting(
        f'"auto" or a number from {MULTIPLIERS[0]:g} to {MULTIPLIERS[1]:g} '
        "(the usual learning rate is taken this often; further away from it nothing is learnt)"
    ),
]
"""`"auto"` or a factor from 0.0001 to 1000."""

DpoMultiplier = Annotated[
    Annotated[float, Field(ge=1e-3, le=MULTIPLIERS[1])] | None,
    _AUTO,
    expecting(
        f'"auto" or a number from 0.001 to {MULTIPLIERS[1]:g} '
        "(the usual learning rate of DPO is taken this often)"
    ),
]
"""`"auto"` or a factor from 0.001 to 1000 on DPO's learning rate, a tenth of the supervised one."""

Beta = Annotated[
    Annotated[float, Field(gt=0, le=2)] | None,
    _AUTO,
    expecting('"auto" or a number above 0, and at most 2'),
]
"""`"auto"` or a number in (0, 2]."""

LearningRate = Annotated[
    Annotated[float, Field(ge=LEARNING_RATES[0], le=LEARNING_RATES[1])] | None,
    _AUTO,
    expecting(
        f'"auto" or, as the learning rate itself, a number from {LEARNING_RATES[0]:g} '
        f"to {LEARNING_RATES[1]:g}"
    ),
]
"""`"auto"` or an absolute learning rate from 1e-8 to 1."""

Suffix = Annotated[str, Field(min_length=1, max_length=64)]
"""Fourth part of the tuned model's name."""

Seed = Annotated[int, Field(ge=0, le=2_147_483_647)]
"""Seed of the run."""

Number = TypeVar("Number", int, float)
"""The type of a hyperparameter."""


class HyperparametersRequest(Wire):
    """What a request says of the three; `None` means `"auto"`."""

    n_epochs: Epochs = None
    """How often each example is seen, 1 to 50."""
    batch_size: BatchSize = None
    """Examples behind one optimizer step, 1 to 256."""
    learning_rate_multiplier: Multiplier = None
    """Factor on the base learning rate, 0.0001 to 1000."""


class HyperparametersObject(Wire):
    """What the three are; `"auto"` until the files are validated."""

    batch_size: int | Literal["auto"]
    """Examples behind one optimizer step."""
    learning_rate_multiplier: float | Literal["auto"]
    """Factor on the base learning rate; OPEA's shape puts the absolute learning rate here."""
    n_epochs: int | Literal["auto"]
    """How often each example is seen."""

    @classmethod
    def to_wire(cls, job: Job) -> HyperparametersObject:
        """Return the hyperparameters of `job` in OpenAI's meaning."""
        known = job.resolved or job.request
        return cls(
            batch_size=known.batch_size or "auto",
            learning_rate_multiplier=known.learning_rate_multiplier or "auto",
            n_epochs=known.n_epochs or "auto",
        )

    @classmethod
    def to_opea(cls, job: Job) -> HyperparametersObject:
        """Return the hyperparameters of `job` in OPEA's meaning."""
        known = job.resolved or job.request
        return cls(
            batch_size=known.batch_size or "auto",
            learning_rate_multiplier=known.learning_rate or "auto",
            n_epochs=known.n_epochs or "auto",
        )


class DpoHyperparametersRequest(HyperparametersRequest):
    """What a request says of DPO's four; `None` means `"auto"`."""

    learning_rate_multiplier: DpoMultiplier = None
    """Factor on DPO's base learning rate, 0.001 to 1000."""
    beta: Beta = None
    """How closely the model is held to where it began, above 0, at most 2; the losses `orpo` and
    `simpo` of `tuning.preference` have none."""


class DpoHyperparametersObject(HyperparametersObject):
    """What DPO's four are; `"auto"` until the files are validated."""

    beta: float | Literal["auto"] | None
    """How closely the model is held to where it began; null where the loss has no reference."""

    @classmethod
    def to_wire(cls, job: Job) -> DpoHyperparametersObject:
        """Return the hyperparameters of `job`, which is tuned by DPO."""
        shared = HyperparametersObject.to_wire(job).model_dump()
        if not has_reference(job.request):
            return cls(**shared, beta=None)
        return cls(**shared, beta=(job.resolved or job.request).beta or "auto")


def agreed(first: tuple[str, Number | None], second: tuple[str, Number | None]) -> Number | None:
    """Return the value that two keys of a request give, either of which may be silent (`None`).

    Raises `InvalidRequestError` where they contradict each other.
    """
    (first_key, first_value), (second_key, second_value) = first, second
    if first_value is None or second_value is None:
        return second_value if first_value is None else first_value
    if first_value != second_value:
        raise InvalidRequestError(
            f"'{first_key}' is {first_value} but '{second_key}' is {second_value}; give only one.",
            param=first_key,
        )
    return first_value


def check_suffix(suffix: str | None) -> None:
    """Raise `InvalidRequestError` if `suffix` cannot be a part of a model's name."""
    if suffix is None:
        return
    if any(not char.isprintable() or char in " :/\\" for char in suffix):
        raise InvalidRequestError(
            "'suffix' becomes a part of the tuned model's name, so it takes no whitespace, "
            "control character, colon, slash or backslash; leave them out.",
            param="suffix",
        )

"""What all wire shapes have in common, and how a field says which values it takes."""

from __future__ import annotations

from typing import Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError


class Wire(BaseModel):
    """A shape as it stands on the wire: no unknown key, no conversion between types."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )


def expecting(expected: str) -> WrapValidator:
    """Return a field's check that names what is expected as a whole, for a type with choices.

    pydantic's own errors name each choice by itself.
    """

    def read(value: Any, read_choice: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read_choice(value)
        except ValidationError:
            raise PydanticCustomError(
                "expected", "must be {expected}", {"expected": expected}
            ) from None

    return WrapValidator(read)


def only(*supported: object, mend: str) -> AfterValidator:
    """Return a field's check that refuses well-formed values which this version cannot honour.

    `supported` are the values that it can; `mend` is a clause that says what to do instead.
    """

    def check(value: Any) -> Any:
        if value not in supported:
            raise unsupported(mend)
        return value

    return AfterValidator(check)


def not_null(mend: str) -> BeforeValidator:
    """Return a field's check that refuses null, whose meaning this version cannot honour.

    `mend` is a clause that says what to do instead.
    """

    def check(value: Any) -> Any:
        if value is None:
            raise unsupported(mend)
        return value

    return BeforeValidator(check)


def unsupported(mend: str) -> PydanticCustomError:
    """Return the error for a well-formed value that this version cannot honour."""
    return PydanticCustomError("unsupported", "{mend}", {"mend": mend})

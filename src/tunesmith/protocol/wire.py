"""What all wire shapes have in common, and how a field says which values it takes."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function


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


class Only:
    """A field's check that refuses well-formed values which this version cannot honour.

    The description of the API shows those that it can as the only ones.
    """

    def __init__(self, *supported: object, mend: str) -> None:
        """Take the `supported` values, and a clause that says what to do instead of others."""
        self._supported = supported
        self._mend = mend

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check behind all that the field itself demands."""
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the values that are taken."""
        return {"enum": list(self._supported)}

    def _check(self, value: Any) -> Any:
        if value not in self._supported:
            raise unsupported(self._mend)
        return value


def unsupported(mend: str) -> PydanticCustomError:
    """Return the error for a well-formed value that this version cannot honour."""
    return PydanticCustomError("unsupported", "{mend}", {"mend": mend})

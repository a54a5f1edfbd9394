"""Commands that share options: what is made of them fills one parameter of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, get_type_hints


def filled(
    name: str, made_by: Callable[..., object]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Fill the command's parameter `name` with what `made_by` returns.

    The parameters of `made_by` become those of the command, behind its own; none may have the
    name of one that is there.
    """

    def change(command: Callable[..., None]) -> Callable[..., None]:
        own, more = _parameters(command), _parameters(made_by)
        del own[name]

        @wraps(command)
        def filled_command(**given: object) -> None:
            part = {key: given.pop(key) for key in more}
            command(**given, **{name: made_by(**part)})

        everything = {**own, **more}
        # Typer reads the options from these two.
        filled_command.__signature__ = inspect.Signature([*everything.values()])  # type: ignore[attr-defined]
        filled_command.__annotations__ = {
            key: parameter.annotation for key, parameter in everything.items()
        }
        return filled_command

    return change


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    hints: dict[str, Any] = get_type_hints(function, include_extras=True)
    return {
        key: parameter.replace(annotation=hints[key], kind=inspect.Parameter.KEYWORD_ONLY)
        for key, parameter in inspect.signature(function).parameters.items()
    }

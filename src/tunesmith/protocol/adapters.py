"""What a request may say of the adapter where it starts from one that is there."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.protocol.reading import describe


def check_same(asked: Mapping[str, tuple[object, object]]) -> None:
    """Raise `InvalidRequestError` where a request asks for another shape than the source has.

    `asked` gives, by the path of each key, what the request says (null for
    nothing) and what the source has.
    """
    for path, (wanted, found) in asked.items():
        if wanted is not None and wanted != found:
            raise InvalidRequestError(
                f"'{path}' is {_shown(wanted)}, but the adapter that the job starts from has "
                f"{_shown(found)}. Leave it out, or start from the base model.",
                param=path,
            )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"'{name}'" for name in value)
    return describe(value)

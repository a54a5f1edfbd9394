"""The error bodies of both dialects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.protocol.wire import Wire

ErrorType = Literal["invalid_request_error", "requests", "insufficient_quota", "server_error"]
"""The request's fault, too many requests, too much that is kept, or the service's fault."""


class ErrorDetail(Wire):
    """What OpenAI's clients read of an error."""

    message: str
    """What is wrong, where, and the mend."""
    type: ErrorType
    """What kind of fault it is."""
    param: str | None
    """Dotted path of the request's field at fault."""
    code: str | None
    """A stable code for programs, where there is one."""


class ErrorBody(Wire):
    """An error in OpenAI's shape."""

    error: ErrorDetail
    """The error."""
    detail: Annotated[str | None, Field(exclude_if=lambda text: text is None)] = None
    """The message again, where OPEA's clients read it: in refusals of a job in their dialect."""


class OpeaErrorBody(Wire):
    """An error in OPEA's shape."""

    detail: str
    """What is wrong, where, and the mend."""

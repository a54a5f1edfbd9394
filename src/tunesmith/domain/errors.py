"""Every error that one room raises for another to understand.

    TunesmithError
    ├── UserError                  the caller can mend it; the message says how
    │   ├── InvalidRequestError    a field is missing, malformed or out of bounds
    │   ├── NotFoundError          no such file, job, model or checkpoint
    │   ├── ConflictError          the thing exists, but its state forbids this
    │   ├── UnknownKeyError        the request shows no API key that is taken
    │   ├── InsufficientScopeError the API key may not do this
    │   └── LimitError             the project has used up what it may
    │       ├── RateLimitError     too many requests; waiting helps
    │       └── QuotaError         too many bytes or jobs; waiting alone does not help
    └── SystemFaultError           the operator (or time) must mend it
        ├── StaleJobError          somebody else changed the job first
        ├── LeaseLostError         another controller leads by now
        ├── ArtifactMissingError   a key holds no bytes
        ├── ArtifactKeyError       a key would lead out of the data folder
        ├── ArtifactsUnavailableError  the object store does not do as it is asked
        ├── DiskFullError          nothing more can be written
        ├── BusyError              there is no room for one more; waiting helps
        ├── ClusterUnavailableError  Ray does not answer; nothing is known of its jobs
        ├── TokenizerMissingError  a model's tokenizer cannot be had here
        ├── ModelUnavailableError  a model's weights cannot be had, or read, here
        ├── SettingsError          a setting cannot be used
        └── FolderInUseError       another process has the data folder to itself

The first line of a class's docstring is its default message. HTTP codes are
chosen in `tunesmith.api.app` alone.
"""

from __future__ import annotations

from typing import ClassVar


class TunesmithError(Exception):
    """Something went wrong in Tunesmith."""

    def __init__(self, message: str | None = None) -> None:
        """Take `message`, or the first line of the class's docstring."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(self.message)


class UserError(TunesmithError):
    """The request cannot be carried out as it stands."""

    def __init__(
        self, message: str | None = None, *, param: str | None = None, code: str | None = None
    ) -> None:
        """Take the message, the request's field at fault and a stable machine-readable code."""
        super().__init__(message)
        self.param = param
        self.code = code


class InvalidRequestError(UserError):
    """The request has a field that is missing, malformed or out of bounds."""


class NotFoundError(UserError):
    """There is nothing of that name or id."""


class ConflictError(UserError):
    """The state of the thing forbids the request."""


class UnknownKeyError(UserError):
    """The request shows no API key that is taken here."""


class InsufficientScopeError(UserError):
    """The API key may not do this."""


class LimitError(UserError):
    """The project has used up what it may."""

    CODE: ClassVar[str] = "rate_limit_exceeded"
    """The error's stable code, as OpenAI has it."""

    def __init__(self, message: str | None = None, *, retry_after: int) -> None:
        """Take the message and the seconds after which the same request may do better."""
        super().__init__(message, code=self.CODE)
        self.retry_after = retry_after


class RateLimitError(LimitError):
    """There were too many requests."""


class QuotaError(LimitError):
    """The project holds as much as it may."""

    CODE: ClassVar[str] = "insufficient_quota"
    """The error's stable code, as OpenAI has it."""


class SystemFaultError(TunesmithError):
    """The service itself is at fault."""


class StaleJobError(SystemFaultError):
    """The job was changed by somebody else in the meantime."""


class LeaseLostError(SystemFaultError):
    """Another process has taken the lease in the meantime."""


class ArtifactMissingError(SystemFaultError):
    """There are no bytes under that key."""


class ArtifactKeyError(SystemFaultError):
    """The key is not a plain relative path."""


class ArtifactsUnavailableError(SystemFaultError):
    """The object store does not answer."""


class DiskFullError(SystemFaultError):
    """The service's disk is full."""


class BusyError(SystemFaultError):
    """The service has no room for one more of these."""

    def __init__(self, message: str | None = None, *, code: str, retry_after: int) -> None:
        """Take the message, a stable code, and the seconds after which to try again."""
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class ClusterUnavailableError(SystemFaultError):
    """Ray does not answer."""


class TokenizerMissingError(SystemFaultError):
    """The model's tokenizer cannot be had here."""


class ModelUnavailableError(SystemFaultError):
    """The model cannot be used on this node."""


class SettingsError(SystemFaultError):
    """A setting cannot be used."""


class FolderInUseError(SystemFaultError):
    """Another process has this data folder to itself."""

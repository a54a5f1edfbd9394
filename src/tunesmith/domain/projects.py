"""Projects: whose files, jobs and models they are. One project never sees another's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith.domain.values import Value

DEFAULT_PROJECT = "default"
"""The project of all that is made where no API key says otherwise."""

PROJECT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What a project may be called; its name is its id."""


class Limits(Value):
    """How much a project may use; null means no limit."""

    max_bytes: Annotated[int, Field(ge=0)] | None = None
    """Most bytes of its files and pending uploads together."""
    max_jobs: Annotated[int, Field(ge=0)] | None = None
    """Most jobs that have not ended."""
    requests_per_minute: Annotated[int, Field(ge=0)] | None = None
    """Most requests within any 60 seconds, counted by each API process for itself."""


class Project(Limits):
    """A project, with the limits of its own; where one is null, the service's own default holds."""

    name: Annotated[str, Field(pattern=PROJECT_NAME)]
    """Its name, which is its id."""
    created_at: int
    """Unix seconds."""
    share: Annotated[int, Field(ge=1)] | None = None
    """How much of the cluster it gets beside the others where all want more; null means 1."""

    def limits(self, defaults: Limits) -> Limits:
        """Return the limits that hold for it, where `defaults` are the service's own."""
        own = self.model_dump(include=set(Limits.model_fields), exclude_none=True)
        return defaults.model_copy(update=own)

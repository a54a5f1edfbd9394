"""What the API works with; the composition root fills it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from tunesmith.api.access import Admitted
from tunesmith.api.checks import FileChecks
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.cluster.answering import Answering
from tunesmith.domain.clock import Clock
from tunesmith.domain.devices import Device
from tunesmith.domain.disk import Disk
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.projects import DEFAULT_PROJECT, Limits
from tunesmith.store.protocol import Store

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Services:
    """The doors and settings that handlers need."""

    store: Store
    """Files, uploads, jobs, events, checkpoints and tuned models."""
    artifacts: Artifacts
    """The bytes behind them."""
    answering: Answering
    """The models that answer."""
    catalogue: Mapping[str, CatalogueEntry]
    """The base models by their names."""
    organization: str
    """Third part of tuned models' names, and their owner."""
    clock: Clock
    """Dates what is created."""
    max_upload_bytes: int
    """Largest upload, in bytes."""
    version: str
    """Version of the service."""
    checks: FileChecks
    """Checks files aside."""
    open_without_keys: bool
    """Whether everybody is admitted to the default project while no API key was ever made."""
    own_names: frozenset[str] | None = None
    """Names, beside loopback's, by which alone it admits them; `None` means any."""
    metrics_token: str | None = None
    """What Prometheus shows to be told the metrics; `None` means that nobody has to show it."""
    push_folder: Path | None = None
    """Folder below which exports may be pushed, each project's in one of its own; `None`: none."""
    push_hub_owner: str | None = None
    """Whose repositories on the hub exports may be pushed to; `None` means nobody's."""
    device: Device = Device.CPU
    """What jobs are trained on that do not say it."""
    disk: Disk = field(default_factory=lambda: Disk(Path(), floor=0))
    """The disk that new files, jobs and exports take room on."""
    project: str = DEFAULT_PROJECT
    """The project that asks; set for each request."""
    limits: Limits = field(default_factory=Limits)
    """The limits of a project that has none of its own."""

    async def read(self, question: Callable[[], _Answer]) -> _Answer:
        """Return the answer of a short `question` to the store, such as a page of a list.

        A database in a local file answers sooner than a thread could be asked to
        ask it, and threads that ask at once stand in each other's way.
        """
        if self.store.local:
            return question()
        return await run_in_threadpool(question)

    def now(self) -> int:
        """Return the time in whole unix seconds."""
        return int(self.clock.now())


async def _services(request: Request, access: Admitted) -> Services:
    services: Services = request.app.state.services
    return replace(
        services,
        store=services.store.within(access.project, access.limits),
        project=access.project,
    )


Serviced = Annotated[Services, Depends(_services)]
"""A handler's parameter that receives the services, as the request's project sees them."""

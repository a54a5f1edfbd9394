"""Freezes a job's spec and hands the job to the cluster."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.protocol import Resources, Submission
from tunesmith.controller.places import Grant
from tunesmith.controller.resolve import resolve_grant, resolve_spec
from tunesmith.domain.devices import Device
from tunesmith.domain.errors import ArtifactMissingError, InvalidRequestError
from tunesmith.domain.files import File
from tunesmith.domain.jobs import Job
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.spec import JobRequest, TrainSpec
from tunesmith.domain.tracking import NOT_TRACKED, Tracking
from tunesmith.tracing import traceparent


class Launcher:
    """Knows how a job becomes a command on the cluster."""

    def __init__(
        self,
        artifacts: Artifacts,
        *,
        location: str,
        catalogue: Mapping[str, CatalogueEntry],
        keep_checkpoints: int,
        tracking: Tracking = NOT_TRACKED,
    ) -> None:
        """Take where `artifacts` are for the nodes, the base models, and a spec's last values."""
        self._artifacts = artifacts
        self.location = location
        """Where the artifacts are for the nodes."""
        self._catalogue = catalogue
        self._keep_checkpoints = keep_checkpoints
        self._tracking = tracking
        self._granted: dict[tuple[object, ...], Grant] = {}
        self._granted_of: Resources | None = None

    def freeze(
        self, job: Job, files: tuple[File, File | None], *, resources: Resources
    ) -> TrainSpec:
        """Return the job's spec, written beside its run at the first launch.

        A later attempt takes the frozen one, but for workers and processors: where the
        request left the number open, it is chosen anew, and where the cluster has become
        smaller, so are the processors. Raises `InvalidRequestError` if no node can hold the job.
        """
        had = job.tuning.cpus if job.tuning else None
        granted = self._grant(job.request, resources, had=had)
        run = RunDirectory(self._artifacts, job.id)
        try:
            spec = run.read_spec()
        except ArtifactMissingError:
            spec = resolve_spec(
                job,
                entry=self._entry(job.base),
                files=files,
                cpus=granted.cpus,
                keep=self._keep_checkpoints,
                tracking=self._tracking,
            )
            run.write_spec(spec)
        if Grant(spec.workers, spec.cpus) != granted:
            spec = spec.model_copy(update=granted._asdict())
            run.write_spec(spec)
        return spec

    def submission(self, job: Job) -> Submission:
        """Return the command for the job's latest attempt, and let no older one write any more."""
        run = RunDirectory(self._artifacts, job.id)
        run.claim(job.attempt)
        spec = run.read_spec()
        # A driver trains nothing itself, so that no warm process can help it; nor can one hand a
        # device on, which a fork does not survive.
        warm = spec.workers == 1 and spec.device is Device.CPU
        module = "tunesmith.training.start" if warm else "tunesmith.training"
        # The job comes first, so that it is seen where a process's title is cut short.
        own = ("--job", job.id, "--attempt", str(job.attempt))
        above = traceparent()
        traced = () if above is None else ("--traceparent", above)
        command = ("python", "-m", module, *own, "--artifacts", self.location, *traced)
        return Submission(
            id=job.submission_id,
            command=command,
            cpus=spec.cpus * spec.workers,
            drives=spec.workers > 1,
            memory=None if spec.workers > 1 else spec.memory,
            device=None if spec.workers > 1 else spec.device.resource,
        )

    def _grant(self, request: JobRequest, resources: Resources, *, had: int | None) -> Grant:
        """Return what `resolve_grant` does; of many launched at once, most ask for the same."""
        if resources is not self._granted_of:
            self._granted, self._granted_of = {}, resources
        size = request.device, request.workers, request.fewest_workers, request.cpus
        asked = (*size, request.memory, had)
        if asked not in self._granted:
            self._granted[asked] = resolve_grant(request, resources, had=had)
        return self._granted[asked]

    def _entry(self, model: str) -> CatalogueEntry:
        try:
            return self._catalogue[model]
        except KeyError:
            known = ", ".join(sorted(self._catalogue))
            raise InvalidRequestError(
                f"The model '{model}' is no longer offered here. Known models: {known}.",
                param="model",
            ) from None

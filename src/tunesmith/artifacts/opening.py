"""Where artifacts are, in one word that is handed from process to process, and how they are opened.

It is a folder, or an `s3://bucket/prefix`. The keys of a bucket are never in it: each process has
them of its own environment.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.domain.errors import ArtifactsUnavailableError, SettingsError
from tunesmith.domain.failures import no_data

if TYPE_CHECKING:
    from tunesmith.artifacts.protocol import Artifacts
    from tunesmith.artifacts.s3 import S3Artifacts


def is_bucket(location: str) -> bool:
    """Tell whether `location` is in a bucket, and no folder."""
    return location.startswith("s3://")


def open_artifacts(location: str) -> Artifacts:
    """Return the artifacts at `location`; a folder is created where absent.

    Raises `SettingsError` where what speaks to a bucket is not installed.
    """
    return open_bucket(location) if is_bucket(location) else LocalArtifacts(Path(location))


def open_bucket(location: str) -> S3Artifacts:
    """Return the artifacts of the bucket at `location`; see `open_artifacts`."""
    if find_spec("boto3") is None:
        raise SettingsError(
            f"This install lacks 'tunesmith[s3]', which {location} needs. Install it, for the "
            "service and on the nodes."
        )
    # Whoever keeps them in a folder need not wait for it.
    from tunesmith.artifacts.s3 import S3Artifacts  # noqa: PLC0415

    return S3Artifacts(location)


def answers_token(location: str, application: str) -> str:
    """Return the key of the secret by which the API is known to what answers as `application`.

    In a folder it is where the API keeps it; in a bucket, a copy for nodes without that folder.
    """
    return f"answers/{application}.token" if is_bucket(location) else "answers.token"


def lacking(location: str, job_id: str, *, node: str) -> str | None:
    """Return what is told where `node` does not see the run of `job_id` at `location`.

    Nothing is written, so that no folder is made that nobody else sees.
    """
    if not is_bucket(location):
        there = (Path(location) / "runs" / job_id).is_dir()
        return None if there else no_data(location, node)
    try:
        there = open_artifacts(location).exists(f"runs/{job_id}/spec.json")
    except (ArtifactsUnavailableError, SettingsError) as error:
        return f"{no_data(location, node)} {error.message}"
    return None if there else no_data(location, node)

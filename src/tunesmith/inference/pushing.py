"""Brings the files of an export to where else they are wanted."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import huggingface_hub

from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.exports import Push, PushFolder, PushHub


class PushError(Exception):
    """The files could not be brought there."""


def push(files: Path, where: Push, *, message: str) -> None:
    """Bring the `files` of a folder to `where`; the hub shows `message`. Raises `PushError`."""
    match where:
        case PushFolder(path=path):
            _to_folder(files, path)
        case PushHub(repo=repo):
            _to_hub(files, repo, message=message)


def _to_folder(files: Path, path: Path) -> None:
    """Copy `files` to the folder `path`, whole or not at all."""
    if path.exists():
        raise PushError(f"the folder {path} is there already; name another one, or remove it")
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(files, aside)
        Path(aside).replace(path)
    except OSError as error:
        if disk_is_full(error):
            raise
        raise PushError(f"the folder {path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _to_hub(files: Path, repo: str, *, message: str) -> None:
    """Upload `files` to the repository `repo`, in one commit."""
    try:
        hub = _client()
        # One that is there may be another project's.
        hub.create_repo(repo, private=True, exist_ok=False)
        hub.upload_folder(repo_id=repo, folder_path=files, commit_message=message)
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise PushError(
            f"the repository {repo} cannot be written ({error}). Check HF_TOKEN on the node, and "
            "what it may write"
        ) from error


def _client() -> huggingface_hub.HfApi:
    """Return the hub's client, which reads the node's HF_TOKEN and HF_ENDPOINT."""
    return huggingface_hub.HfApi()

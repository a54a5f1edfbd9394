"""Writes a base model's tokenizer into artifacts, without its weights.

`python -m tunesmith.training.tokenizer_files --artifacts LOCATION` reads the
catalogue's entry as JSON from standard input. What is wrong is said on standard
error, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from tunesmith.artifacts.opening import open_artifacts
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.tokenizers import tokenizer_key
from tunesmith.domain.errors import TokenizerMissingError, TunesmithError
from tunesmith.domain.models import CatalogueEntry, FolderSource, HubSource, PackageSource


def write_tokenizer(entry: CatalogueEntry, artifacts: Artifacts) -> None:
    """Put the tokenizer of `entry`, and the config of its model, into `artifacts`.

    The hub is asked for these files alone. Raises `TokenizerMissingError`.
    """
    where, options = _place(entry)
    with artifacts.scratch() as aside:
        folder = aside / "tokenizer"
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                where, trust_remote_code=entry.trust_remote_code, **options
            )
            tokenizer.save_pretrained(folder)
            config = AutoConfig.from_pretrained(
                where, trust_remote_code=entry.trust_remote_code, **options
            )
            config.save_pretrained(folder)
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            raise _missing(entry, " ".join(str(error).split())) from error
        if not (folder / "tokenizer.json").is_file():
            raise _missing(entry, "its kind cannot be read without transformers")
        artifacts.put_folder(tokenizer_key(entry), folder)


def _place(entry: CatalogueEntry) -> tuple[str, dict[str, Any]]:
    """Return what `from_pretrained` is told of the source of `entry`."""
    match entry.source:
        case FolderSource(path=path):
            return str(path), {}
        case HubSource(repo=repo, revision=revision, offline=offline):
            return repo, {"revision": revision, "local_files_only": offline}
        case PackageSource(package=package, file=file):
            spec = importlib.util.find_spec(package)
            folders = spec.submodule_search_locations if spec else None
            if not folders:
                raise _missing(entry, f"the Python package '{package}' is not installed here")
            path = Path(folders[0]) / file
            return str(path.parent), {"gguf_file": path.name}


def _missing(entry: CatalogueEntry, why: str) -> TokenizerMissingError:
    return TokenizerMissingError(f"The tokenizer of '{entry.name}' cannot be had: {why}.")


def main() -> int:
    """Write the tokenizer of the entry on standard input and return the exit code."""
    parser = argparse.ArgumentParser(prog="tunesmith.training.tokenizer_files")
    parser.add_argument("--artifacts", required=True, help="the data folder, or s3://…")
    location = parser.parse_args().artifacts
    try:
        entry = CatalogueEntry.model_validate_json(sys.stdin.buffer.read())
        write_tokenizer(entry, open_artifacts(location))
    except TunesmithError as error:
        sys.stderr.write(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

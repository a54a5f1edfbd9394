"""Finds the folder with a base model's tokenizer, and has it written where there is none yet."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from tunesmith.artifacts.opening import open_artifacts
from tunesmith.artifacts.tokenizers import tokenizer_key
from tunesmith.domain.errors import TokenizerMissingError
from tunesmith.domain.models import CatalogueEntry, FolderSource

_PATIENCE = 600.0
"""Seconds that the tokenizer of a model of the hub may take to arrive."""


class TokenizerFolders:
    """The tokenizers of base models, as folders on this machine."""

    def __init__(self, location: str) -> None:
        """Keep those that models' own folders lack in the artifacts at `location`."""
        self._location = location
        self._artifacts = open_artifacts(location)
        self._lock = threading.Lock()

    def folder(self, entry: CatalogueEntry) -> Path:
        """Return the folder that holds the `tokenizer.json` of `entry`.

        A model's own folder serves as it is. For others the tokenizer is written
        once, by a process that has transformers; the weights are not touched.
        Raises `TokenizerMissingError`.
        """
        source, key = entry.source, tokenizer_key(entry)
        if isinstance(source, FolderSource) and (source.path / "tokenizer.json").is_file():
            return source.path
        # Two that ask at once for the same one wait for one writer.
        with self._lock:
            if not self._artifacts.exists(f"{key}/tokenizer.json"):
                self._write(entry)
        return self._artifacts.fetch_folder(key)

    def _write(self, entry: CatalogueEntry) -> None:
        if find_spec("transformers") is None:
            raise TokenizerMissingError(
                f"The tokenizer of '{entry.name}' must be read by transformers once, which is not "
                "installed here. Install 'tunesmith[train]', or give the model as a folder that "
                "has a tokenizer.json."
            )
        command = [sys.executable, "-m", "tunesmith.training.tokenizer_files"]
        try:
            done = subprocess.run(  # noqa: S603  our own module
                [*command, "--artifacts", self._location],
                input=entry.model_dump_json().encode(),
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TokenizerMissingError(
                f"The tokenizer of '{entry.name}' did not arrive in {_PATIENCE:.0f} s."
            ) from None
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise TokenizerMissingError(lines[-1] if lines else None)

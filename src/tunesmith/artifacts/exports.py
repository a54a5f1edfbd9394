"""An export's directory, `exports/<export id>/`: where the controller and its process meet.

exports/<export id>/
  spec.json      what is to be made
  report.json    how far it has come, and its outcome at the end
  files/         what is handed out
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.errors import ArtifactMissingError
from tunesmith.domain.exports import ExportReport, ExportSpec


class ExportDirectory:
    """Reads and writes one export's directory through `Artifacts`."""

    def __init__(self, artifacts: Artifacts, export_id: str) -> None:
        """Take the export's id; nothing is read or written yet."""
        self._artifacts = artifacts
        self.prefix = f"exports/{export_id}"
        """Where all of it lies."""
        self.files = f"{self.prefix}/files"
        """Where lies what is handed out."""

    def write_spec(self, spec: ExportSpec) -> None:
        """Keep what is to be made."""
        self._artifacts.put(f"{self.prefix}/spec.json", spec.model_dump_json().encode())

    def read_spec(self) -> ExportSpec:
        """Return what `write_spec` kept. Raises `ArtifactMissingError`."""
        return ExportSpec.model_validate_json(self._artifacts.get(f"{self.prefix}/spec.json"))

    def write_report(self, report: ExportReport) -> None:
        """Keep how far it has come, in place of what was told before."""
        self._artifacts.put(f"{self.prefix}/report.json", report.model_dump_json().encode())

    def report(self) -> ExportReport | None:
        """Return what was told last; `None` where nothing was."""
        try:
            content = self._artifacts.get(f"{self.prefix}/report.json")
        except ArtifactMissingError:
            return None
        return ExportReport.model_validate_json(content)

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a context with an empty folder in which to make the files."""
        return self._artifacts.scratch()

    def put_files(self, folder: Path) -> None:
        """Hand out the files of `folder`, all at once."""
        self._artifacts.put_folder(self.files, folder)

    def fetch_files(self) -> Path:
        """Return a folder of this machine with what was handed out."""
        return self._artifacts.fetch_folder(self.files)

    def drop_files(self) -> None:
        """Take back what was handed out, where anything was."""
        self._artifacts.delete(self.files)

    def open_file(self, name: str) -> BinaryIO:
        """Return a stream over the file `name`. Raises `ArtifactMissingError`."""
        return self._artifacts.open(f"{self.files}/{name}")

    def delete(self) -> None:
        """Remove all of it."""
        self._artifacts.delete(self.prefix)

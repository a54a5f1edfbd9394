"""The entrypoint of an export: `python -m tunesmith.inference.export --export … --attempt …`.

Exit codes: 0 it ended as its report tells, well or not; 3 another attempt has taken its place.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

from tunesmith.artifacts.exports import ExportDirectory
from tunesmith.artifacts.opening import open_artifacts
from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.errors import DiskFullError
from tunesmith.domain.exports import ExportError, ExportFailure, ExportOutcome, ExportReport

_log = logging.getLogger("tunesmith.inference.export")


def main() -> int:
    """Make the export that the command line names and return the exit code."""
    parser = argparse.ArgumentParser(prog="tunesmith.inference.export")
    parser.add_argument("--export", required=True, help="the export's id")
    parser.add_argument("--attempt", type=int, required=True, help="number of this launch")
    parser.add_argument("--artifacts", required=True, help="the data folder, or s3://…")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    return run_export(arguments.artifacts, arguments.export, attempt=arguments.attempt)


def run_export(location: str, export_id: str, *, attempt: int) -> int:
    """Make the export `export_id` of the artifacts at `location`, and return the exit code."""
    artifacts = open_artifacts(location)
    directory = ExportDirectory(artifacts, export_id)
    before = directory.report()
    if before is not None and before.attempt > attempt:
        return 3

    def tell(progress: float, message: str) -> None:
        _log.info("%s", message)
        directory.write_report(ExportReport(attempt=attempt, progress=progress, message=message))

    tell(0.0, "Starting")
    try:
        # Behind the first report, since torch takes seconds to import.
        steps = importlib.import_module("tunesmith.inference.exporting")
        spec = directory.read_spec()
        importlib.import_module("torch").set_num_threads(spec.cpus)
        outcome = steps.export(spec, artifacts, tell=tell)
    except Exception as error:  # noqa: BLE001  the process's edge: whoever asked is told
        outcome = ExportOutcome(error=_fault(error))
    directory.write_report(ExportReport(attempt=attempt, progress=1.0, outcome=outcome))
    return 0


def _fault(error: Exception) -> ExportError:
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and disk_is_full(error)):
        message = "The disk is full. Its operator must free some space; then export again."
        return ExportError(code=ExportFailure.DISK_FULL, message=message)
    _log.error("The export failed.", exc_info=error)
    message = f"The export failed by a fault of the service ({type(error).__name__}: {error})."
    return ExportError(code=ExportFailure.INTERNAL_ERROR, message=message[:500])


if __name__ == "__main__":
    sys.exit(main())

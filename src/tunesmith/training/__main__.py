"""The entrypoint of a submission: `python -m tunesmith.training --artifacts … --job … --attempt …`.

One worker is this very process; where a run has more, this process drives them.

Exit codes: 0 succeeded, 1 failed (the outcome says why), 3 replaced by another
attempt, 4 a worker is gone, 5 with its node (the events say which), 6 a node lacks the data folder
or the bucket (the last line printed says which), 28 the disk is full (perhaps too full for an
outcome), 143 stopped.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import socket
import sys

import psutil

from tunesmith.artifacts.opening import lacking, open_artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import StaleJobError
from tunesmith.domain.failures import EXIT_DISK_FULL, EXIT_NO_DATA, FailureCode
from tunesmith.models.environment import ENVIRONMENT
from tunesmith.tracing import span, start_tracing, stop_tracing
from tunesmith.training.run_log import RunLog
from tunesmith.training.stopping import StopFlag, watch_parent, watch_sigterm

_log = logging.getLogger("tunesmith.training")

EXIT_FAILED = 1
"""Exit code of a run whose outcome is a failure."""

EXIT_REPLACED = 3
"""Exit code of an attempt that found the run claimed by another one."""


def main() -> int:
    """Train the run that the command line names and return the exit code."""
    arguments = _parse()
    told = lacking(arguments.artifacts, arguments.job, node=this_node())
    if told is not None:
        sys.stdout.write(f"{told}\n")
        return EXIT_NO_DATA
    stop = StopFlag()
    watch_sigterm(stop)
    watch_parent(stop)
    artifacts = open_artifacts(arguments.artifacts)
    run = RunDirectory(artifacts, arguments.job)
    _start_log(RunLog(run, artifacts, attempt=arguments.attempt))
    os.environ.update(ENVIRONMENT)
    if arguments.traceparent:
        start_tracing("training")
    with span("train", parent=arguments.traceparent, job_id=run.job_id, attempt=arguments.attempt):
        code = _train(arguments.artifacts, run, attempt=arguments.attempt, stop=stop)
    stop_tracing()
    return code


def _train(location: str, run: RunDirectory, *, attempt: int, stop: StopFlag) -> int:
    """Train, or drive those who do, and return the exit code."""
    try:
        run.check_claim(attempt)
        # Behind the watches, since torch takes seconds to import and a stop must not wait for it.
        if run.read_spec().workers > 1:
            several = importlib.import_module("tunesmith.training.workers")
            outcome = several.drive(location, run, attempt=attempt, stop=stop)
        else:
            steps = importlib.import_module("tunesmith.training.run")
            outcome = steps.train(run, open_artifacts(location), attempt=attempt, stop=stop)
    except StaleJobError as error:
        _log.info("%s", error)
        return EXIT_REPLACED
    if isinstance(outcome, int):
        return outcome
    if outcome.error is None:
        return 0
    return EXIT_DISK_FULL if outcome.error.code is FailureCode.DISK_FULL else EXIT_FAILED


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunesmith.training", description="Train one run.")
    parser.add_argument("--artifacts", required=True, help="the data folder, or s3://…")
    parser.add_argument("--job", required=True, help="the job's id")
    parser.add_argument("--attempt", type=int, required=True, help="number of this launch")
    parser.add_argument("--traceparent", help="the span that this run belongs to")
    return parser.parse_args()


def this_node() -> str:
    """Return the name of this machine and the addresses that others may reach it by."""
    found = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family is socket.AF_INET and not each.address.startswith("127.")
    ]
    return f"{socket.gethostname()} ({', '.join(found)})"


def _start_log(kept: RunLog) -> None:
    printed = logging.StreamHandler(sys.stdout)
    # The same lines in both: of what a dead process printed, the log then gets what it lacks.
    printed.setFormatter(kept.formatter)
    logging.basicConfig(level=logging.INFO, handlers=[printed, kept])
    logging.captureWarnings(capture=True)
    for talkative in ("httpx", "urllib3", "filelock", "wandb", "mlflow"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())

"""Whether anything is lost, doubled or stuck, whatever is killed whenever: `make chaos`.

Two services share a data folder, and each run makes the same small job: a random Llama that learns
180 steps on one worker. Meanwhile, three times and at a random moment, a random process is killed
with SIGKILL: an API, which is started again; a controller, that which leads or that which stands
by; the process that trains; or one of those of which the Ray head consists. `--seed` draws what is
killed and after how many seconds; in which step that falls depends on the machine. There is one
node, so that no node is killed.

Ends with one line of JSON: `runs`; of these, `lost` (the job is not there, did not succeed, or a
step is missing), `doubled` (an event was told twice, or two attempts ran at once), `stuck` (the job
has not ended 180 s after the last kill) and `unequal` (the adapter has other bytes than that of the
run that nothing disturbed). Each but the first is to be 0, or the exit code is 1. `--report` names
a file that tells of each run what was killed when, and how the job ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from e2e.chaos import Report, chaos
from e2e.conftest import new_data
from models.tiny import save_tiny_llama

KILLS = 3


def main() -> int:
    """Make all runs, print each and the figures as the last line; return the exit code."""
    arguments = _arguments()
    reports: list[Report] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        save_tiny_llama(folder / "tiny")
        with chaos(new_data(folder, folder / "tiny"), seed=arguments.seed) as town:
            print(f"undisturbed   {town.leave_alone().seconds:6.1f} s", flush=True)
            for run in range(1, arguments.runs + 1):
                reports.append(town.disturb(run, kills=KILLS))
                _tell(reports, to=arguments.report)
    found = _figures(reports)
    print(json.dumps(found))
    return int(any(count for name, count in found.items() if name != "runs"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="draws what is killed when")
    parser.add_argument("--report", type=Path, help="file for what was done in each run, JSON")
    parser.add_argument("--folder", type=Path, help="where the data folder is made")
    return parser.parse_args()


def _tell(reports: Sequence[Report], *, to: Path | None) -> None:
    """Print the last run, and write all of them: what ends this too early loses none."""
    last = reports[-1]
    kills = ", ".join(f"{kill['kind']} at {kill['second']} s" for kill in last.kills)
    good = "as if nothing had happened" if last.faultless else "WITH FAULTS"
    print(f"run {last.run:4}   {last.seconds:6.1f} s   {good}   {kills}", flush=True)
    if to is not None:
        runs = [asdict(report) for report in reports]
        to.write_text(json.dumps({"figures": _figures(reports), "runs": runs}, indent=1))


def _figures(reports: Sequence[Report]) -> dict[str, int]:
    return {
        "runs": len(reports),
        "lost": sum(report.lost for report in reports),
        "doubled": sum(report.doubled for report in reports),
        "stuck": sum(report.stuck for report in reports),
        "unequal": sum(report.unequal for report in reports),
    }


if __name__ == "__main__":
    sys.exit(main())

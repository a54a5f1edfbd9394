"""How soon a job takes its first step, beside a cold Ray job: `make bench-start`.

The service runs with a Ray head of its own. A job that tunes SmolLM2-135M-Instruct, LoRA on all
linear layers, is timed from its `POST` to the end of its first optimizer step, as its events tell.
The peer is submitted to the same head: an entrypoint that starts transformers' Trainer on one
worker of Ray Train's TorchTrainer, timed from its submission to the end of the same step. Both
learn from the same short rows in turns; nothing else runs meanwhile.

Ends with one line of JSON:

- `first_step_s`: median of ours, in seconds; under 5 is wanted.
- `vs_cold_ray_train`: ours against the peer's; at most 0.25.
- `first_step_cold_s`: ours where no warm process waits, once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from base_models import smollm2
from openai import OpenAI
from rows import generated
from server import running_server

from tunesmith.cluster.head_process import HeadFolder
from tunesmith.cluster.protocol import Submission
from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.domain.spec import Precision
from tunesmith.training.devices import PROCESSOR

BASE, BATCH, ROWS = "smollm2-135m-instruct", 4, 16
LOOK = 0.1
"""Seconds between two looks at a job's events, each of which takes the service some time."""
SETTLE = 5
"""Seconds before each job, in which the processes of the one before it leave."""
WARM = 120
"""Seconds in which a warm process must have come up."""


class Bench:
    """A service and its head."""

    def __init__(self, url: str, data: Path, *, folder: Path) -> None:
        """Use the service at `url`, whose data folder is `data`; write into `folder`."""
        self._client = OpenAI(base_url=url, api_key="unused")
        head = HeadFolder(data / "ray")
        found = head.find()
        while found is None:
            time.sleep(0.5)
            found = head.find()
        self._ray = RayJobs(found.address, python=sys.executable, token=head.token())
        self._folder = folder
        self._rows = folder / "rows.jsonl"
        rows = list(generated(ROWS))
        self._rows.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self._file = self._client.files.create(file=self._rows, purpose="fine-tune").id
        self._peers = 0

    def ours(self) -> float:
        """Return the seconds from a job's `POST` to the end of its first step; then wait it out."""
        began = time.time()
        job = self._client.fine_tuning.jobs.create(
            model=BASE,
            training_file=self._file,
            hyperparameters={"n_epochs": 1, "batch_size": BATCH},
            extra_body={"tuning": {"max_steps": 1}},
        )
        took = None
        while job.status not in {"succeeded", "failed", "cancelled"}:
            time.sleep(LOOK)
            if took is None:
                events = self._client.fine_tuning.jobs.list_events(job.id, limit=20).data
                if any(event.message.startswith("Step 1/") for event in events):
                    took = time.time() - began
                elif all(event.level != "error" for event in events):
                    continue
            job = self._client.fine_tuning.jobs.retrieve(job.id)
        if took is None:
            raise SystemExit(f"The job took no step: {job.error}")
        return took

    def peer(self, model: Path) -> float:
        """Return the seconds from the submission of a cold job to the end of its first step."""
        self._peers += 1
        output = self._folder / f"peer-{self._peers}"
        output.mkdir()
        task = {
            "model": str(model),
            "rows": str(self._rows),
            "output": str(output),
            "batch": BATCH,
            "length": 1024,
            "rate": 2e-4,
            "epochs": 1,
            "rank": 16,
            "bf16": PROCESSOR.precision(Precision.AUTO) is Precision.BF16,
            "threads": int(self._ray.resources().nodes[0].cpus),
        }
        asked = output / "task.json"
        asked.write_text(json.dumps(task), encoding="utf-8")
        script = Path(__file__).parent / "peers" / "ray_train.py"
        submission = Submission(
            id=f"peer-{self._peers}", command=("python", str(script), str(asked)), cpus=0
        )
        began = time.time()
        self._ray.submit(submission)
        while True:
            status = self._ray.status(submission.id)
            if status is not None and status.state.ended:
                break
            time.sleep(0.2)
        told = output / "first_step"
        if not told.exists():
            raise SystemExit(self._ray.logs(submission.id)[-3000:])
        return float(told.read_text(encoding="utf-8")) - began

    def wait_until_warm(self) -> None:
        """Return once a warm process has imported all, as its log tells."""
        nodes = self._ray.resources().nodes
        deadline = time.monotonic() + WARM
        while time.monotonic() < deadline:
            if any("is warm" in self._ray.logs(f"tunesmith-warm-{n.id}-1") for n in nodes):
                return
            time.sleep(0.5)
        raise SystemExit("No warm process has come up.")


def main() -> dict[str, float]:
    """Measure in turns, print what was found, and the figures as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the data folder is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        folder, data = Path(made), Path(made) / "data"
        model = smollm2(data)
        with running_server(data, ray=True) as server:
            bench = Bench(f"http://127.0.0.1:{server.port}/v1", data, folder=folder)
            cold = bench.ours()
            print(f"ours, before a process was warm: {cold:.1f} s", flush=True)
            bench.wait_until_warm()
            measures: dict[str, Callable[[], float]] = {
                "ours": bench.ours,
                "cold Ray Train": lambda: bench.peer(model),
            }
            found: dict[str, list[float]] = {name: [] for name in measures}
            for _ in range(arguments.rounds):
                for name, measure in measures.items():
                    time.sleep(SETTLE)
                    found[name].append(measure())
                    print(f"{name}: {found[name][-1]:.1f} s", flush=True)
    ours, theirs = (statistics.median(found[name]) for name in found)
    figures = {
        "first_step_s": ours,
        "vs_cold_ray_train": ours / theirs,
        "first_step_cold_s": cold,
    }
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}))
    return figures


if __name__ == "__main__":
    main()

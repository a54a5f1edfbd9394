"""Kills processes of a service of two at random moments, and tells what became of its job."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from openai.types.fine_tuning import FineTuningJob

from e2e.service import ENDED, Service, make_job, running, until
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.head_process import HeadFolder

EPOCHS = 6
STEPS = 30 * EPOCHS
BOUND = 180.0
"""Seconds after its last kill in which a job must have ended; else it is stuck."""
LONGEST_PAUSE = 10.0
"""Seconds that at most pass before a kill."""
KINDS = ("api", "controller", "training", "ray head")
HEAD_PROCESSES = (
    *("ray.scripts.scripts", "/gcs/gcs_server", "/raylet/raylet"),
    *("/dashboard/dashboard.py", "ray-dashboard-JobHead-0"),
)
"""What a Ray head consists of, by a word at the front of the command lines."""


@dataclass(frozen=True)
class Blow:
    """One kill, as it was drawn."""

    kind: str
    """What is killed."""
    pause: float
    """Seconds since the kill before, or since the job was made."""
    choice: float
    """Which of several such processes, from 0 to 1."""


@dataclass
class Report:
    """What was done in one run, and what came of it."""

    run: int
    """Its number, from 1."""
    job: str = ""
    """The job's id."""
    kills: list[dict[str, object]] = field(default_factory=list)
    """What was killed, which process of it, and at which second after the job was made."""
    status: str = ""
    """How the job ended."""
    seconds: float = 0.0
    """From the job's creation to its end."""
    attempts: int = 0
    """How often it was launched."""
    lost: bool = False
    """Whether the job is not there, did not succeed though it ended, or lacks a step."""
    doubled: bool = False
    """Whether an event is told twice, or two attempts ran at the same time."""
    stuck: bool = False
    """Whether the job did not end in time."""
    unequal: bool = False
    """Whether the adapter differs from the undisturbed one."""

    @property
    def faultless(self) -> bool:
        """Whether it went as if nothing had happened."""
        return not (self.lost or self.doubled or self.stuck or self.unequal)


class Chaos:
    """Two services that share a data folder, one of which leads."""

    def __init__(self, services: Sequence[Service], *, seed: int) -> None:
        """Draw all kills by `seed`."""
        self._services = services
        self._seed = seed
        self._data = services[0].data
        self._undisturbed = b""

    def leave_alone(self) -> Report:
        """Run the job undisturbed, for the others to be compared with."""
        report = self._run(0, blows=[])
        self._undisturbed = self._adapter(report.job)
        report.unequal = False
        return report

    def disturb(self, run: int, *, kills: int) -> Report:
        """Run the job once more, and kill so many processes meanwhile."""
        return self._run(run, blows=list(self._blows(run, kills)))

    def _blows(self, run: int, kills: int) -> Iterator[Blow]:
        # A generator of its own, so that each run can be repeated without those before it.
        chance = random.Random(f"{self._seed} {run}")
        for _ in range(kills):
            pause = chance.uniform(0, LONGEST_PAUSE)
            yield Blow(kind=chance.choice(KINDS), pause=pause, choice=chance.random())

    def _run(self, run: int, *, blows: Sequence[Blow]) -> Report:
        report, begun = Report(run), time.monotonic()
        job = make_job(self._services[run % 2], epochs=EPOCHS)
        report.job = job.id
        for blow in blows:
            self._wait(report, blow.pause)
            kind = self._kind(job.id, blow)
            killed = self._strike(job.id, kind, choice=blow.choice)
            at = round(time.monotonic() - begun, 1)
            report.kills.append({"kind": kind, "process": killed, "second": at})
        self._wait(report, BOUND)
        report.seconds = round(time.monotonic() - begun, 1)
        self._judge(report)
        return report

    def _wait(self, report: Report, seconds: float) -> None:
        """Wait for so long, but not longer than for the job's end; look who trains meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._job(report.job).status not in ENDED:
            report.doubled |= len(self._attempts(report.job)) > 1
            time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))

    def _kind(self, job_id: str, blow: Blow) -> str:
        """Return the kind that is drawn; a job that has ended meanwhile is not trained any more."""

        def settled() -> bool:
            return bool(self._services[0].trainers(job_id)) or self._ended(job_id)

        if blow.kind == "training":
            until(settled, BOUND)
            return "controller" if self._ended(job_id) else blow.kind
        return blow.kind

    def _strike(self, job_id: str, kind: str, *, choice: float) -> str:
        """Kill a process of that kind, and let the service begin anew where it was its API."""
        service = self._services[int(choice * len(self._services))]
        match kind:
            case "api":
                service.kill()
                service.start()
                return f"that of {service.url} since"
            case "controller":
                return _kill(service.controller())
            case "training":
                # The entrypoint, or the trainer that a warm process has forked for it.
                both = until(lambda: service.trainers(job_id), BOUND)
                return _kill(both[int(choice * len(both))])
            case _:
                head = until(self._head, BOUND)
                return _kill(head[int(choice * len(head))])

    def _head(self) -> list[psutil.Process]:
        """Return the processes of which the Ray head consists, once it has come up."""
        found: dict[str, psutil.Process] = {}
        for process in HeadFolder(self._data / "ray").members():
            try:
                front = " ".join(process.cmdline()).split()[:4]
            except psutil.Error:
                continue
            for name in HEAD_PROCESSES:
                if any(word.endswith(name) for word in front):
                    found.setdefault(name, process)
        return [found[name] for name in sorted(found)]

    def _job(self, job_id: str) -> FineTuningJob:
        return self._services[0].client.fine_tuning.jobs.retrieve(job_id)

    def _ended(self, job_id: str) -> bool:
        return self._job(job_id).status in ENDED

    def _attempts(self, job_id: str) -> set[str]:
        """Return the attempts of the job that are being trained at this moment."""
        found = set()
        for process in self._services[0].trainers(job_id):
            try:
                words = " ".join(process.cmdline()).split()
                found.add(words[words.index("--attempt") + 1])
            except (psutil.Error, ValueError):
                continue
        return found

    def _judge(self, report: Report) -> None:
        jobs = self._services[1].client.fine_tuning.jobs
        listed = {job.id: job.status for job in jobs.list(limit=100)}
        report.status = listed.get(report.job, "not listed")
        claim = self._data / "runs" / report.job / "attempt"
        report.attempts = int(claim.read_text()) if claim.exists() else 0
        if report.status in ("validating_files", "queued", "running"):
            report.stuck = True
            jobs.cancel(report.job)
        elif report.status == "succeeded":
            self._compare_events(report)
            report.unequal = self._adapter(report.job) != self._undisturbed
        else:
            report.lost = True

    def _compare_events(self, report: Report) -> None:
        """Note whether the API tells each line of the run, each step and all else just once."""
        jobs = self._services[1].client.fine_tuning.jobs
        steps = self._services[1].steps(report.job)
        run = RunDirectory(LocalArtifacts(self._data), report.job)
        lines = Counter(line.message for line in run.events(after=0) if line.outcome is None)
        told = Counter(event.message for event in jobs.list_events(report.job, limit=100))
        told.update(f"{each.step_number}" for each in jobs.checkpoints.list(report.job))
        more = told - lines
        report.lost = bool(lines - told) or set(steps) != set(range(1, STEPS + 1))
        report.doubled |= len(steps) > STEPS
        report.doubled |= any(times > 1 or text in lines for text, times in more.items())

    def _adapter(self, job_id: str) -> bytes:
        return (self._data / "output" / job_id / "adapter_model.safetensors").read_bytes()


@contextmanager
def chaos(data: Path, *, seed: int) -> Iterator[Chaos]:
    """Run two services on the folder `data` while the block lasts."""
    with running(data) as one, running(data) as other:
        yield Chaos((one, other), seed=seed)


def _kill(process: psutil.Process) -> str:
    """Kill `process`, and return its number and how its command line begins."""
    try:
        shown = f"{process.pid} {' '.join(process.cmdline())[:80]}"
        process.kill()
    except psutil.NoSuchProcess:
        return f"{process.pid} was gone already"
    return shown

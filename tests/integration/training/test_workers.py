"""A run on two workers of a real Ray head, undisturbed, with one of them killed, and stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from integration.cluster.conftest import answers, await_true, has_ended
from models.tiny import save_tiny_llama
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.cluster.local_head import LocalRay
from tunesmith.cluster.protocol import Submission, SubmissionState
from tunesmith.domain.failures import EXIT_WORKER_LOST
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.training.examples import batch_of_step
from unit.training.conftest import JOB, Bench, rows

TOLERANCE = 5e-6
"""By how much a loss on two workers may differ from that on one: what rounding in fp32 makes."""

LIMIT = 200.0
"""Seconds that an attempt may take; Ray and torch need most of them to start."""

STEPS = 150

RUN: dict[str, Any] = {"n_epochs": 30, "batch_size": 5, "evaluate_every": 50}
"""What makes `STEPS` steps of the 24 rows that are learnt from."""

# The first head and the first attempt of a machine that is busy take their time.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def head_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("head") / "ray"


@pytest.fixture(scope="module")
def head(head_folder: Path) -> Iterator[LocalRay]:
    head = LocalRay(head_folder)
    head.start()
    try:
        await_true(lambda: answers(head))
        yield head
    finally:
        head.shutdown()


@pytest.fixture(scope="module")
def new_bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    root = tmp_path_factory.mktemp("workers")
    save_tiny_llama(root / "base")

    def make(name: str, *, workers: int = 2, cpus: int = 1, checkpoint_every: int = 40) -> Bench:
        artifacts = LocalArtifacts(root / name)
        bench = Bench(artifacts, RunDirectory(artifacts, JOB), root / name, root / "base")
        valid = bench.upload("valid", rows(6))
        changes = {"validation_file": valid, "checkpoint_every": checkpoint_every, **RUN}
        bench.write_spec(rows(24), workers=workers, cpus=cpus, **changes)
        return bench

    return make


class Attempt:
    """One launch of a bench's run, as the controller makes it."""

    def __init__(self, head: LocalRay, bench: Bench, number: int = 1) -> None:
        self.id = f"{bench.root.name}-{number}"
        self._head, self._bench = head, bench
        bench.run.claim(number)
        spec = bench.run.read_spec()
        command = ("python", "-m", "tunesmith.training", "--artifacts", str(bench.root))
        own = ("--job", JOB, "--attempt", str(number))
        head.submit(
            Submission(
                id=self.id,
                command=command + own,
                cpus=spec.cpus * spec.workers,
                drives=spec.workers > 1,
            )
        )

    def await_end(self) -> tuple[SubmissionState, str]:
        """Return how it ended, in Ray's words."""
        await_true(lambda: self._status()[0].ended, limit=LIMIT)
        return self._status()

    def await_step(self, step: int) -> None:
        """Return once the run has told `step`."""

        def reached() -> bool:
            state, message = self._status()
            assert not state.ended, message
            return any(metrics.step == step for metrics in self._bench.metrics())

        await_true(reached, limit=LIMIT)

    def _status(self) -> tuple[SubmissionState, str]:
        status = self._head.status(self.id)
        assert status is not None
        return status.state, status.message


def process_of(bench: Bench, rank: int) -> psutil.Process:
    """Return the process of a rank, as the newest attempt has told it."""
    (*_, told) = [text for text in bench.messages() if text.startswith("Training started")]
    found = re.search(rf"rank {rank} of \S+ \(process (\d+)\)", told)
    assert found, told
    return psutil.Process(int(found[1]))


def driver_of(bench: Bench) -> psutil.Process:
    """Return the process that Ray's Jobs API started."""
    (found,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"tunesmith.training", str(bench.root)} <= set(process.info["cmdline"] or [])
    ]
    return found


@pytest.fixture(scope="module")
def undisturbed(head: LocalRay, new_bench: Callable[..., Bench]) -> Bench:
    """The run on two workers, at its end."""
    bench = new_bench("two")
    state, message = Attempt(head, bench).await_end()
    assert state is SubmissionState.SUCCEEDED, message
    return bench


def test_two_workers_learn_what_one_does(
    head: LocalRay, new_bench: Callable[..., Bench], undisturbed: Bench
) -> None:
    one = new_bench("one", workers=1)
    state, message = Attempt(head, one).await_end()
    assert state is SubmissionState.SUCCEEDED, message

    log = (undisturbed.root / "runs" / JOB / "log").read_text()
    assert set(re.findall(r"attempt 1 (rank \d) node", log)) == {"rank 0", "rank 1"}
    two = undisturbed.metrics()
    assert [each.step for each in two] == list(range(1, STEPS + 1))
    for alone, shared in zip(one.metrics(), two, strict=True):
        assert shared.train_loss == pytest.approx(alone.train_loss, abs=TOLERANCE)
        assert shared.valid_loss == pytest.approx(alone.valid_loss, abs=TOLERANCE)
    assert two[-1].train_loss < two[0].train_loss - 0.2


def assert_ends_undisturbed(bench: Bench, attempt: Attempt, undisturbed: Bench) -> None:
    state, message = attempt.await_end()
    assert state is SubmissionState.SUCCEEDED, message
    assert any(text.startswith("Resumed from the checkpoint") for text in bench.messages())
    assert [(m.step, m.train_loss, m.valid_loss) for m in bench.metrics()] == [
        (m.step, m.train_loss, m.valid_loss) for m in undisturbed.metrics()
    ]
    assert bench.adapter() == undisturbed.adapter()


def test_a_killed_worker_is_named_and_the_next_attempt_ends_as_if_nothing_had_happened(
    head: LocalRay, new_bench: Callable[..., Bench], undisturbed: Bench
) -> None:
    # The first rank, which writes; tests/e2e/test_devices.py kills the second.
    bench = new_bench("killed")
    attempt = Attempt(head, bench)
    attempt.await_step(45)
    victim = process_of(bench, 0)

    victim.kill()

    state, message = attempt.await_end()
    assert state is SubmissionState.FAILED
    assert f"exit code {EXIT_WORKER_LOST}" in message
    told = bench.messages()[-1]
    assert re.match(
        rf"Rank 0 of \S+ \(process {victim.pid}\) died first: its process was killed", told
    )
    assert_ends_undisturbed(bench, Attempt(head, bench, 2), undisturbed)


def test_a_killed_driver_leaves_no_worker_that_writes(
    head: LocalRay, new_bench: Callable[..., Bench], undisturbed: Bench
) -> None:
    bench = new_bench("driverless")
    attempt = Attempt(head, bench)
    attempt.await_step(45)
    workers = [process_of(bench, rank) for rank in range(2)]

    driver_of(bench).kill()

    state, message = attempt.await_end()
    assert state is SubmissionState.FAILED
    assert "exit code -9" in message
    assert_ends_undisturbed(bench, Attempt(head, bench, 2), undisturbed)
    assert all(has_ended(worker) for worker in workers)


NARROW = """
import torch
from torch import distributed
from transformers import LlamaForCausalLM


class NarrowLlama(LlamaForCausalLM):
    def forward(self, input_ids=None, **given):
        if torch.is_grad_enabled() and distributed.is_initialized() and distributed.get_rank():
            if input_ids.numel() > 150:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            if input_ids.shape[1] > 60:
                raise ValueError("This one I do not take.")
        return super().forward(input_ids=input_ids, **given)
"""
"""A model that does not fit into memory in the second rank, nor takes a long text there."""


def save_narrow(folder: Path) -> None:
    save_tiny_llama(folder)
    (folder / "narrow.py").write_text(NARROW)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "narrow.NarrowLlama"}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_divided_model_goes_on_with_less_where_a_worker_lacks_room_and_fails_for_its_fault(
    head: LocalRay, tmp_path: Path
) -> None:
    save_narrow(tmp_path / "base")
    base = CatalogueEntry(
        name="narrow", source=FolderSource(path=tmp_path / "base"), trust_remote_code=True
    )
    data, artifacts = rows(24), LocalArtifacts(tmp_path / "data")
    third = batch_of_step(3, count=24, batch_size=8, seed=7)
    for number in third[:2]:
        data[number] = {"instruction": "Count", "output": "n" * 60}
    bench = Bench(artifacts, RunDirectory(artifacts, JOB), tmp_path / "data", tmp_path / "base")
    changes = {"batch_size": 8, "checkpoint_every": 2, "base_model": base}
    bench.write_spec(data, workers=2, lora=None, **changes)

    state, _ = Attempt(head, bench).await_end()

    assert state is SubmissionState.FAILED
    told = bench.messages()
    started = [text for text in told if text.startswith("Training started (attempt 1)")]
    assert "2 workers with 1 threads in fp32, the model divided among them" in started[0]
    (cut,) = [text for text in told if "did not fit" in text]
    assert cut.startswith("A micro-batch of step 1 did not fit into memory")
    assert len(started) == 2
    assert [each.step for each in bench.metrics()] == [1, 2]
    kept = bench.root / bench.run.checkpoint(2)
    config = json.loads((kept / "config.json").read_text())
    assert (config["architectures"], config["auto_map"]) == (
        ["NarrowLlama"],
        {"AutoModelForCausalLM": "narrow.NarrowLlama"},
    )
    assert (kept / "narrow.py").exists()
    outcome = bench.run.events(after=0)[-1].outcome
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.message == "Training ended with ValueError: This one I do not take."


def test_a_stop_saves_the_last_step(head: LocalRay, new_bench: Callable[..., Bench]) -> None:
    bench = new_bench("stopped", checkpoint_every=1000)
    attempt = Attempt(head, bench)
    attempt.await_step(6)

    head.stop(attempt.id)

    state, _ = attempt.await_end()
    assert state is SubmissionState.STOPPED
    last = bench.metrics()[-1].step
    assert bench.run.checkpoint_steps()[-1] in (last, last + 1)
    assert not [text for text in bench.messages() if "died first" in text]

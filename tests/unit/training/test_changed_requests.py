"""A request that failed succeeds with the change that its failure names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from merging import merged
from tunesmith.controller.resolve import resolve_spec
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.hyperparameters import resolve_hyperparameters
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobError, JobStatus
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.protocol.changes import change_to_wire
from tunesmith.protocol.jobs import CreateJob
from tunesmith.protocol.reading import read_shape
from tunesmith.training import loop
from tunesmith.training.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tunesmith.domain.changes import Change
    from tunesmith.domain.spec import TrainSpec
    from tunesmith.training.examples import MicroBatch
    from tunesmith.training.objective import Measured
    from unit.training.conftest import Bench, Rows

LONG = [{"instruction": "long " * 25, "output": f"{n}"} for n in range(4)]
"""Rows of 146 tokens, the last of which are the answer."""
SHORT = [{"instruction": "say", "output": f"{n}"} for n in range(4)]


@dataclass
class Service:
    """Takes requests and trains at once, each in a data folder of its own."""

    new_bench: Callable[[str], Bench]
    base: Path
    sent: list[TrainSpec] = field(default_factory=list)

    def send(
        self, body: dict[str, Any], files: dict[str, list[dict[str, Any]]]
    ) -> tuple[JobError | None, dict[str, Any] | None]:
        """Return why the job of `body` failed, if it did, and the change that the client sees."""
        bench = self.new_bench(f"job-{len(self.sent)}")
        request = read_shape(CreateJob, body).to_request()
        job = Job(
            id="ftjob-1",
            dialect=Dialect.OPENAI,
            created_at=1,
            status=JobStatus.RUNNING,
            model="tiny",
            training_file="file-train",
            training_filename="train.jsonl",
            request=request,
            resolved=resolve_hyperparameters(request, examples=len(files["training_file"])),
            seed=1,
            organization="org",
        )
        validation = body.get("validation_file")
        spec = resolve_spec(
            job,
            entry=CatalogueEntry(name="tiny", source=FolderSource(path=self.base)),
            files=(
                self._file(bench, files["training_file"], name="train"),
                self._file(bench, files["validation_file"], name="valid") if validation else None,
            ),
            cpus=1,
            keep=3,
        )
        self.sent.append(spec)
        bench.run.write_spec(spec)
        bench.run.claim(1)
        error = bench.train().error
        return error, change_to_wire(job.model_copy(update={"error": error}))

    def _file(self, bench: Bench, rows: list[dict[str, Any]], *, name: str) -> File:
        there = bench.upload(name, rows)
        fields = {**there.model_dump(), "purpose": Purpose.FINE_TUNE, "bytes": 1, "created_at": 1}
        return File(**fields)


@pytest.fixture
def service(new_bench: Callable[[str], Bench], base_folder: Path) -> Service:
    return Service(new_bench, base_folder)


def body(**keys: Any) -> dict[str, Any]:
    tuning = {"max_steps": 2, "precision": "fp32", **keys.pop("tuning", {})}
    return {"model": "tiny", "training_file": "file-train", "tuning": tuning, **keys}


@pytest.mark.parametrize(
    ("sent", "code", "change"),
    [
        (
            {"tuning": {"max_length": 64}},
            FailureCode.NOTHING_TO_LEARN,
            {"tuning": {"max_length": 146}},
        ),
        (
            {"tuning": {"max_length": 64, "over_length": "set_aside"}},
            FailureCode.NOTHING_TO_LEARN,
            {"tuning": {"max_length": 146}},
        ),
        (
            {"tuning": {"max_length": 64, "over_length": "refuse"}},
            FailureCode.INVALID_TRAINING_FILE,
            {"tuning": {"max_length": 146}},
        ),
        (
            {"tuning": {"adapter": {"rank": 2, "targets": ["c_attn"]}}},
            FailureCode.INVALID_HYPERPARAMETERS,
            {"tuning": {"adapter": {"targets": None}}},
        ),
        (
            {"tuning": {"max_examples": 1, "held_out_percent": 10, "early_stopping": {}}},
            FailureCode.INVALID_HYPERPARAMETERS,
            {"tuning": {"early_stopping": None}},
        ),
    ],
)
def test_the_change_makes_the_run_succeed(
    service: Service, sent: dict[str, Any], code: FailureCode, change: dict[str, Any]
) -> None:
    request = body(**sent)
    error, found = service.send(request, {"training_file": LONG})
    assert error is not None
    assert (error.code, found) == (code, change)

    again, _ = service.send(merged(request, change), {"training_file": LONG})

    assert again is None
    before, after = service.sent
    assert before != after


def test_what_the_model_cannot_take_at_once_is_cut(service: Service) -> None:
    rows = [*SHORT, {"instruction": "say", "output": "long " * 1000}]
    request = body(tuning={"over_length": "refuse"})
    error, found = service.send(request, {"training_file": rows})
    assert error is not None
    assert error.code is FailureCode.INVALID_TRAINING_FILE
    assert found == {"tuning": {"over_length": "cut"}}

    assert service.send(merged(request, found), {"training_file": rows}) == (None, None)


def test_a_file_in_which_no_length_helps_has_no_change(service: Service) -> None:
    rows: Rows = [{"instruction": "say", "output": ""}] * 4

    error, found = service.send(body(), {"training_file": rows})

    assert error is not None
    assert (error.code, found) == (FailureCode.NOTHING_TO_LEARN, None)


def test_a_validation_file_with_nothing_in_it_gives_way_to_a_share_of_the_training_file(
    service: Service,
) -> None:
    files = {"training_file": SHORT, "validation_file": [{"instruction": "say", "output": ""}]}
    stopping = {"early_stopping": {"patience": 1}, "evaluate_every": 1}
    request = body(validation_file="file-valid", tuning=stopping)
    error, found = service.send(request, files)
    assert error is not None
    assert error.code is FailureCode.INVALID_VALIDATION_FILE
    assert found == {"validation_file": None, "tuning": {"held_out_percent": 10}}

    assert service.send(merged(request, found), files) == (None, None)


@pytest.mark.parametrize(
    "sent",
    [
        {"tuning": {"max_steps": 6, "learning_rate": 1e-2}},
        {"tuning": {"max_steps": 6}, "hyperparameters": {"learning_rate_multiplier": 20}},
    ],
)
def test_a_loss_that_has_exploded_is_mended_by_a_tenth_of_the_learning_rate(
    service: Service, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = loop.learn

    def learn_and_say(course: loop.Course, step: int) -> None:
        learn(course, step)
        progress = course.learner.progress
        if step > 1 and course.spec.learning_rate > 5e-3 and progress.metrics is not None:
            progress.metrics = progress.metrics.model_copy(update={"train_loss": 100.0})

    monkeypatch.setattr(loop, "learn", learn_and_say)
    request = body(**sent)
    error, found = service.send(request, {"training_file": SHORT})
    assert error is not None
    assert error.code is FailureCode.LOSS_EXPLODED
    assert found is not None

    assert service.send(merged(request, found), {"training_file": SHORT}) == (None, None)
    assert [spec.learning_rate for spec in service.sent] == pytest.approx([1e-2, 1e-3])


def test_what_does_not_fit_into_memory_is_made_smaller_until_it_does(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Supervised.measure

    def measure_if_it_fits(self: Supervised, network: Any, batch: MicroBatch) -> Measured:
        anew = any(
            getattr(part, "gradient_checkpointing", False) for part in network.model.modules()
        )
        if batch.tokens > (75 if anew else 40):
            raise MemoryError
        return measure(self, network, batch)

    monkeypatch.setattr(Supervised, "measure", measure_if_it_fits)
    request, changes = body(), []
    rows = [*SHORT, {"instruction": "say", "output": "more " * 25}]
    while (answer := service.send(request, {"training_file": rows}))[1] is not None:
        assert answer[0] is not None
        assert answer[0].code is FailureCode.OUT_OF_MEMORY
        changes.append(answer[1])
        request = merged(request, answer[1])

    assert answer == (None, None)
    assert changes == [
        {"tuning": {"gradient_checkpointing": True}},
        {"tuning": {"max_length": 74}},
    ]


@pytest.mark.parametrize(
    ("steps_before", "change"),
    [(0, None), (1, {"learning_rate": 1e29})],
    ids=["the first step", "a later step"],
)
def test_no_learning_rate_mends_a_loss_that_was_not_finite_before_anything_was_learnt(
    bench: Bench,
    rows: Callable[[int], Rows],
    monkeypatch: pytest.MonkeyPatch,
    steps_before: int,
    change: Change | None,
) -> None:
    bench.write_spec(rows(2), learning_rate=1e30, n_epochs=3)
    measure, finite = Supervised.measure, iter([1.0] * steps_before)

    def measure_in_time(self: Supervised, network: Any, batch: MicroBatch) -> Measured:
        measured = measure(self, network, batch)
        return replace(measured, loss=measured.loss * next(finite, float("nan")))

    monkeypatch.setattr(Supervised, "measure", measure_in_time)

    error = bench.train().error

    assert error is not None
    assert (error.code, error.change) == (FailureCode.LOSS_NOT_FINITE, change)
    assert ("learning rate" in error.message) is (change is not None)

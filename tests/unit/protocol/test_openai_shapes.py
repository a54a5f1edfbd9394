"""OpenAI's shapes: their keys are those of its published description, and what they say is true."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest

import tunesmith.protocol
from tunesmith.domain.events import Event, EventLevel, EventType
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobError, JobStatus
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.domain.spec import JobRequest
from tunesmith.domain.values import Page
from tunesmith.protocol.events import EventList
from tunesmith.protocol.files import FileList, FileObject, FilePurpose
from tunesmith.protocol.jobs import CreateJob, JobObject
from tunesmith.protocol.models import ModelObject
from tunesmith.protocol.opea import OpeaJobObject
from tunesmith.protocol.reading import read_shape
from tunesmith.protocol.wire import Wire

JOB = Job(
    id="ftjob-1",
    dialect=Dialect.OPENAI,
    created_at=1,
    status=JobStatus.VALIDATING_FILES,
    model="m",
    training_file="file-1",
    training_filename="a.jsonl",
    validation_file="file-2",
    validation_filename="b.jsonl",
    request=JobRequest(n_epochs=3, suffix="blue", metadata={"k": "v"}),
    seed=7,
    organization="acme",
)


def create(**keys: Any) -> JobRequest:
    return read_shape(CreateJob, {"model": "m", "training_file": "file-1"} | keys).to_request()


def test_a_job_has_each_key_that_openai_requires() -> None:
    required = {
        *("id", "object", "created_at", "error", "fine_tuned_model", "finished_at"),
        *("hyperparameters", "model", "organization_id", "result_files", "status"),
        *("trained_tokens", "training_file", "validation_file", "seed"),
    }
    optional = {
        *("integrations", "estimated_finish", "method", "metadata", "user_provided_suffix"),
        *("tuning", "queue", "verdict"),
    }
    assert JobObject.to_wire(JOB).model_dump().keys() == required | optional


def test_what_is_not_resolved_yet_reads_auto() -> None:
    shown = JobObject.to_wire(JOB).model_dump()
    hyperparameters = {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": 3}
    assert shown["hyperparameters"] == hyperparameters
    assert shown["method"] == {
        "type": "supervised",
        "supervised": {"hyperparameters": hyperparameters},
    }


def test_what_is_resolved_is_shown_in_each_dialects_meaning() -> None:
    resolved = ResolvedHyperparameters(
        examples=9, n_epochs=3, batch_size=4, learning_rate_multiplier=2.0, learning_rate=4e-4
    )
    job = JOB.model_copy(update={"resolved": resolved})
    shown = JobObject.to_wire(job).hyperparameters
    assert shown is not None
    assert shown.learning_rate_multiplier == 2.0
    assert OpeaJobObject.to_wire(job).hyperparameters.learning_rate_multiplier == 4e-4


def test_a_failure_is_shown_with_its_code() -> None:
    error = JobError(code=FailureCode.NOTHING_TO_LEARN, message="Why.", param="training_file")
    job = JOB.model_copy(update={"error": error, "status": JobStatus.FAILED})
    shown = {"code": "nothing_to_learn", "message": "Why.", "param": "training_file"}
    assert OpeaJobObject.to_wire(job).model_dump()["error"] == shown
    assert JobObject.to_wire(job).model_dump()["error"] == shown | {"change": None}


@pytest.mark.parametrize(
    ("option", "dialect", "key"),
    [
        ("lora.targets", Dialect.OPENAI, "tuning.adapter.targets"),
        ("lora.targets", Dialect.OPEA, "General.lora_config.target_modules"),
        ("cpus", Dialect.OPENAI, "tuning.cpus"),
        ("cpus", Dialect.OPEA, "Training.resources_per_worker.CPU"),
        ("workers", Dialect.OPEA, "Training.num_training_workers"),
        ("early_stopping", Dialect.OPENAI, "tuning.early_stopping"),
    ],
)
def test_an_option_that_a_job_failed_for_has_its_name_in_the_dialect_of_the_request(
    option: str, dialect: Dialect, key: str
) -> None:
    error = JobError(
        code=FailureCode.INVALID_HYPERPARAMETERS, message="So many are not there.", param=option
    )
    job = JOB.model_copy(update={"error": error, "dialect": dialect, "status": JobStatus.FAILED})
    for shape in (JobObject, OpeaJobObject):
        shown = shape.to_wire(job).error
        assert shown is not None
        assert shown.param == key


@pytest.mark.parametrize("status", list(JobStatus))
def test_each_status_can_be_shown(status: JobStatus) -> None:
    assert JobObject.to_wire(JOB.model_copy(update={"status": status})).status == status.value


def test_a_file_has_each_key_that_openai_requires() -> None:
    file = File(
        id="file-1",
        filename="a",
        purpose=Purpose.FINE_TUNE_RESULTS,
        bytes=3,
        sha256="",
        created_at=1,
        key="files/file-1",
    )
    shown = FileObject.to_wire(file).model_dump()
    assert {"id", "object", "bytes", "created_at", "filename", "purpose", "status"} <= shown.keys()
    assert "key" not in shown
    page = FileList.to_wire(Page(items=(file, file), has_more=True)).model_dump()
    assert page.keys() == {"object", "data", "first_id", "last_id", "has_more"}


def test_an_empty_page_of_files_has_null_ids() -> None:
    page = FileList.to_wire(Page(items=(), has_more=False))
    assert (page.first_id, page.last_id, page.data) == (None, None, [])


def test_an_event_has_openais_keys() -> None:
    event = Event(
        id="e",
        job_id="j",
        created_at=1,
        level=EventLevel.WARN,
        type=EventType.MESSAGE,
        message="m",
    )
    [shown] = EventList.to_wire(Page(items=(event,), has_more=False)).model_dump()["data"]
    assert shown.keys() == {"object", "id", "created_at", "level", "message", "type", "data"}
    assert shown["level"] == "warn"


def test_a_model_has_openais_keys() -> None:
    assert set(ModelObject.model_fields) == {"id", "object", "created", "owned_by"}


def test_the_purposes_are_the_domains() -> None:
    assert set(FilePurpose.__args__) == {p.value for p in Purpose}  # type: ignore[attr-defined]


def test_both_places_of_the_hyperparameters_are_read() -> None:
    hyperparameters = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    expected = JobRequest(n_epochs=2, learning_rate_multiplier=0.5)
    assert create(hyperparameters=hyperparameters) == expected
    assert create(method=method) == expected
    assert create(method=method, hyperparameters=hyperparameters) == expected


def test_nulls_mean_the_defaults() -> None:
    nulls = dict.fromkeys(
        ("validation_file", "suffix", "seed", "metadata", "integrations", "method")
    )
    assert create(**nulls, hyperparameters=None) == JobRequest()


def test_each_field_of_each_shape_is_described() -> None:
    for module in pkgutil.iter_modules(tunesmith.protocol.__path__):
        importlib.import_module(f"tunesmith.protocol.{module.name}")
    shapes = Wire.__subclasses__()
    assert len(shapes) > 25
    for shape in shapes:
        for name, field in shape.model_fields.items():
            assert field.description, f"{shape.__name__}.{name}"

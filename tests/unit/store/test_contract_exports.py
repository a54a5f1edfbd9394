"""What every store does with exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StaleJobError,
)
from tunesmith.domain.exports import (
    Comparison,
    Export,
    ExportError,
    ExportFailure,
    ExportFile,
    ExportFormat,
    ExportStatus,
    Parity,
    PushHub,
    Quantization,
)
from tunesmith.domain.ids import checkpoint_model_name
from tunesmith.domain.jobs import JobChange
from tunesmith.store.protocol import Store

if TYPE_CHECKING:
    from unit.store.conftest import Examples, Steps

PARITY = Parity(
    measure="log_probability",
    prompts=7,
    tokens=168,
    sides=(
        Comparison(
            side="gguf",
            read_by="llama.cpp",
            bound=0.05,
            largest_difference=0.001,
            mean_difference=1e-4,
        ),
    ),
)


@pytest.fixture
def model(store: Store, steps: Steps) -> str:
    name = steps.succeeded(store).fine_tuned_model
    assert name is not None
    return name


def export(model: str, name: str = "1") -> Export:
    return Export(
        id=f"exp_{name}",
        created_at=5,
        model=model,
        job_id="",
        key="",
        format=ExportFormat.GGUF,
        quantization=Quantization.Q8_0,
        push_to="hub:me/mine",
        push=PushHub(repo="me/mine"),
    )


def test_an_export_comes_back_with_the_place_of_its_model(store: Store, model: str) -> None:
    added = store.add_export(export(model))
    assert (added.job_id, added.key) == ("ftjob-1", "output/ftjob-1")
    assert store.export("exp_1") == added
    with pytest.raises(NotFoundError, match="exp_2"):
        store.export("exp_2")


def test_only_what_is_there_is_exported(store: Store, model: str) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        store.add_export(export("ft:tiny:org::none"))
    store.retire_model(model)
    with pytest.raises(NotFoundError, match="does not exist"):
        store.add_export(export(model))


def test_a_model_that_another_project_shares_is_not_exported(store: Store, model: str) -> None:
    store.add_permissions(model, ["other"])
    other = store.within("other")
    assert other.startable_model(model).name == model
    with pytest.raises(ConflictError, match="alone can export it"):
        other.add_export(export(model))
    store.within("default").add_export(export(model))
    with pytest.raises(NotFoundError):
        other.export("exp_1")
    assert other.list_exports(after=None, limit=5).items == ()


def test_exports_are_listed_newest_first_by_cursor(store: Store, model: str) -> None:
    for name in ("b", "a", "c"):
        store.add_export(export(model, name))
    first = store.list_exports(after=None, limit=2)
    assert ([each.id for each in first.items], first.has_more) == (["exp_c", "exp_a"], True)
    rest = store.list_exports(after="exp_a", limit=2)
    assert ([each.id for each in rest.items], rest.has_more) == (["exp_b"], False)
    with pytest.raises(InvalidRequestError):
        store.list_exports(after="exp_x", limit=2)


def test_what_came_of_an_export_is_kept(store: Store, model: str) -> None:
    seen = store.add_export(export(model))
    ended = {
        "status": ExportStatus.SUCCEEDED,
        "progress": 1.0,
        "files": (ExportFile(name="model.gguf", bytes=2**40, sha256="0"),),
        "parity": PARITY,
        "error": ExportError(code=ExportFailure.NOT_EQUAL, message="m"),
    }
    changed = store.change_export(seen, seen.model_copy(update=ended))
    assert store.export(seen.id) == changed
    assert store.open_exports() == []


def test_an_export_that_has_changed_since_it_was_seen_stays_as_it_is(
    store: Store, model: str
) -> None:
    seen = store.add_export(export(model))
    launched = {"status": ExportStatus.RUNNING, "attempt": 1, "submission_open": True}
    running = store.change_export(seen, seen.model_copy(update=launched))
    with pytest.raises(StaleJobError):
        store.change_export(seen, seen.model_copy(update={"progress": 0.5}))
    older = running.model_copy(update={"attempt": 0})
    with pytest.raises(StaleJobError):
        store.change_export(older, older)
    assert store.export(seen.id) == running


def test_a_cancelled_export_is_open_until_its_process_is_gone(store: Store, model: str) -> None:
    seen = store.add_export(export(model))
    launched = {"status": ExportStatus.RUNNING, "attempt": 1, "submission_open": True}
    store.change_export(seen, seen.model_copy(update=launched))
    cancelled = store.cancel_export(seen.id, now=77)
    assert (cancelled.status, cancelled.finished_at) == (ExportStatus.CANCELLED, 77)
    assert store.open_exports() == [cancelled]
    with pytest.raises(ConflictError, match="over already"):
        store.cancel_export(seen.id, now=78)
    with pytest.raises(ConflictError, match="may still write"):
        store.delete_export(seen.id)
    store.change_export(cancelled, cancelled.model_copy(update={"submission_open": False}))
    assert store.open_exports() == []
    assert store.delete_export(seen.id).id == seen.id
    with pytest.raises(NotFoundError):
        store.export(seen.id)


def test_a_model_stays_while_it_is_exported(store: Store, model: str) -> None:
    going = store.add_export(export(model))
    with pytest.raises(ConflictError, match="exp_1"):
        store.retire_model(model)
    store.cancel_export(going.id, now=1)
    store.retire_model(model)


def test_the_exports_of_a_model_are_those_of_its_checkpoints_too(
    store: Store, model: str, examples: Examples
) -> None:
    store.ingest("ftjob-1", [], checkpoints=[examples.checkpoint(store.job("ftjob-1"), 5)])
    store.change_job(store.job("ftjob-1"), JobChange(submission_open=False))
    checkpoint = checkpoint_model_name("ft:tiny:tunesmith::1", 5)
    store.add_export(export(model, "model"))
    store.add_export(export(checkpoint, "checkpoint"))
    assert [each.id for each in store.exports_of(model)] == ["exp_model"]
    assert [each.id for each in store.exports_of(checkpoint)] == ["exp_checkpoint"]
    assert [each.id for each in store.exports_of("ft:tiny:tunesmith::1")] == ["exp_checkpoint"]


def test_another_spelling_of_a_name_is_another_model(
    store: Store, examples: Examples, steps: Steps
) -> None:
    for number, base in enumerate(("ft:tiny:tunesmith::1", "FT:Tiny:tunesmith::1")):
        job = steps.succeeded(store, str(number))
        name = checkpoint_model_name(base, 5)
        made = examples.checkpoint(job, 5).model_copy(update={"model": name})
        store.ingest(job.id, [], checkpoints=[made])
        store.change_job(store.job(job.id), JobChange(submission_open=False))
        store.add_export(export(name, base))
    for base in ("ft:tiny:tunesmith::1", "FT:Tiny:tunesmith::1"):
        assert [each.model for each in store.exports_of(base)] == [f"{base}:ckpt-step-5"]
    for other in ("ft:tiny:tunesmith::_", "%", "FT:tiny:tunesmith::1"):
        assert store.exports_of(other) == []

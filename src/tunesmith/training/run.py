"""One run from its spec to its outcome, as named steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.dataset.rendering import ensure_template
from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.errors import DiskFullError, InvalidRequestError, StaleJobError
from tunesmith.domain.events import EventLevel, RunOutcome
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import DataFile, Precision, TrainSpec
from tunesmith.training import base_model, checkpoints
from tunesmith.training.adapter import (
    check_targets,
    context_length,
    load_config,
    load_model,
    load_tokenizer,
    precision_here,
)
from tunesmith.training.base_model import BaseModel
from tunesmith.training.checkpoints import Learner, Progress
from tunesmith.training.examples import Examples, FileReport, hold_out, read_file
from tunesmith.training.failures import RunFailedError, explain, naming_memory
from tunesmith.training.loop import Course, make_optimizer, run_loop, total_steps
from tunesmith.training.receipt import FileReceipt, Receipt, libraries, sha256, sha256_of_file
from tunesmith.training.stopping import StopFlag
from tunesmith.training.telemetry import EventLog

_log = logging.getLogger(__name__)

_EXAMPLES_NAMED = 5
"""How many examples that were set aside an event names; the receipt names all."""


@dataclass(frozen=True)
class Data:
    """What a run learns from and is evaluated on."""

    learnt: Examples
    """What is learnt from."""
    held_out: Examples
    """What the run is evaluated on; may be empty."""
    training: FileReport
    """What became of the training file."""
    validation: FileReport | None
    """What became of the validation file."""


def train(run: RunDirectory, artifacts: Artifacts, *, attempt: int, stop: StopFlag) -> RunOutcome:
    """Carry the run on to its end and return its outcome, which the event log then holds too.

    Raises `StaleJobError`, having written nothing more, if another attempt has
    claimed the run. Anything else that goes wrong is the outcome. Where the disk has
    no room for the outcome either, it is returned alone.
    """
    try:
        events = EventLog(run, attempt)
        outcome = _outcome(run, artifacts, events=events, attempt=attempt, stop=stop)
        with stop.whole():
            events.outcome(outcome)
    except (OSError, DiskFullError) as error:
        if not disk_is_full(error):
            raise
        outcome = RunOutcome(error=explain(error))
        _log.exception("%s", explain(error).message)
    return outcome


def _outcome(
    run: RunDirectory, artifacts: Artifacts, *, events: EventLog, attempt: int, stop: StopFlag
) -> RunOutcome:
    try:
        return _train(run, artifacts, events=events, attempt=attempt, stop=stop)
    except StaleJobError:
        raise
    except Exception as error:  # noqa: BLE001  the run's edge: the client is told in any case
        _log.info("The run failed", exc_info=error)
        return RunOutcome(error=explain(error))


def _train(
    run: RunDirectory, artifacts: Artifacts, *, events: EventLog, attempt: int, stop: StopFlag
) -> RunOutcome:
    spec = run.read_spec()
    torch.set_num_threads(spec.cpus)
    precision = precision_here(spec.precision)
    events.message(f"Training started (attempt {attempt}) on {spec.cpus} threads in {precision}")

    base = _bring(run, spec, artifacts=artifacts, events=events)
    config = load_config(spec.base_model, base)
    check_targets(spec, config)
    spec = _within_context(spec, config, events=events)
    tokenizer = load_tokenizer(spec.base_model, base)
    if ensure_template(tokenizer):
        events.message("The model has no chat template; the default one is used")
    data = _read_data(spec, artifacts, tokenizer=tokenizer, events=events)

    with naming_memory(spec):
        model = load_model(spec, base, precision=precision)
        learner = Learner(model, tokenizer, make_optimizer(model, spec), Progress())
        _restore(
            run,
            artifacts,
            learner=learner,
            events=events,
            total=total_steps(spec, len(data.learnt)),
        )
        course = Course(spec, run, artifacts, events, stop, learner, data.learnt, data.held_out)
        run_loop(course)

    with stop.whole():
        checkpoints.publish(run, artifacts, step=learner.progress.step, target=run.output)
        run.write_metrics(events.table())
        receipt = _receipt(course, data, base=base, precision=precision)
        run.write_receipt(receipt.model_dump_json(indent=2).encode())
    return RunOutcome(trained_tokens=learner.progress.trained_tokens)


def _bring(
    run: RunDirectory, spec: TrainSpec, *, artifacts: Artifacts, events: EventLog
) -> BaseModel:
    """Bring the base model, the same one in each attempt, though its branch may have moved on."""
    entry = run.pinned_base_model() or spec.base_model
    base = base_model.bring(entry, artifacts, announce=events.message)
    events.check_claim()
    run.pin_base_model(base_model.pinned(entry, base))
    return base


def _within_context(spec: TrainSpec, config: PretrainedConfig, *, events: EventLog) -> TrainSpec:
    context = context_length(config)
    if context is None or context >= spec.max_length:
        return spec
    events.message(
        f"The base model takes {context} tokens at once; the maximum length is {context}, "
        f"not {spec.max_length}",
        level=EventLevel.WARN,
        data={"max_length": context},
    )
    return spec.model_copy(update={"max_length": context})


def _read_data(
    spec: TrainSpec, artifacts: Artifacts, *, tokenizer: PreTrainedTokenizerBase, events: EventLog
) -> Data:
    examples, report = _read(
        spec.training_file, spec, artifacts=artifacts, tokenizer=tokenizer, events=events
    )
    if not report.learnt_tokens:
        raise RunFailedError(
            FailureCode.NOTHING_TO_LEARN,
            f"Nothing in '{spec.training_file.filename}' can be learnt: "
            f"{_reasons(report) or 'It holds no example.'}",
            param="training_file",
        )
    if spec.validation_file is None:
        learnt, held_out = hold_out(examples, percent=spec.held_out_percent, seed=spec.seed)
        return Data(learnt, held_out, report, None)
    held_out, validation = _read(
        spec.validation_file, spec, artifacts=artifacts, tokenizer=tokenizer, events=events
    )
    if not validation.learnt_tokens:
        raise RunFailedError(
            FailureCode.INVALID_VALIDATION_FILE,
            f"Nothing in '{spec.validation_file.filename}' can be evaluated: "
            f"{_reasons(validation) or 'It holds no example.'}",
            param="validation_file",
        )
    return Data(examples, held_out, report, validation)


def _read(
    file: DataFile,
    spec: TrainSpec,
    *,
    artifacts: Artifacts,
    tokenizer: PreTrainedTokenizerBase,
    events: EventLog,
) -> tuple[Examples, FileReport]:
    training = file is spec.training_file
    code, param = (
        (FailureCode.INVALID_TRAINING_FILE, "training_file")
        if training
        else (FailureCode.INVALID_VALIDATION_FILE, "validation_file")
    )
    try:
        _check_content(file, artifacts)
        with artifacts.open(file.key) as stream:
            examples, report = read_file(
                stream,
                tokenizer,
                max_length=spec.max_length,
                limit=spec.max_examples if training else None,
            )
    except InvalidRequestError as error:
        raise RunFailedError(code, error.message, param=param) from error
    _tell(file, report, events=events)
    return examples, report


def _check_content(file: DataFile, artifacts: Artifacts) -> None:
    # In a pass of its own, so that a changed file is told as such and not by its first bad line.
    with artifacts.open(file.key) as stream:
        found = sha256_of_file(stream)
    if found != file.sha256:
        raise InvalidRequestError(
            f"The content of '{file.filename}' is not what was uploaded. "
            "Upload the file anew and create the job with that one."
        )


def _tell(file: DataFile, report: FileReport, *, events: EventLog) -> None:
    events.message(
        f"'{file.filename}': {report.examples} examples, {report.tokens} tokens, "
        f"{report.learnt_tokens} of them learnt; {report.cut} examples cut, "
        f"{len(report.set_aside)} set aside",
        data={
            **report.model_dump(exclude={"set_aside"}),
            "file": file.id,
            "set_aside": len(report.set_aside),
        },
    )
    if report.set_aside:
        events.message(
            f"Examples not used in '{file.filename}': {len(report.set_aside)}. {_reasons(report)}",
            level=EventLevel.WARN,
            data={"set_aside": [one.model_dump() for one in report.set_aside[:_EXAMPLES_NAMED]]},
        )


def _reasons(report: FileReport) -> str:
    named = [one.reason for one in report.set_aside[:_EXAMPLES_NAMED]]
    more = len(report.set_aside) - len(named)
    return " ".join([*named, f"(And {more} more.)"] if more else named)


def _restore(
    run: RunDirectory, artifacts: Artifacts, *, learner: Learner, events: EventLog, total: int
) -> None:
    checkpoints.restore_newest(run, artifacts, learner=learner)
    step = learner.progress.step
    if step:
        events.message(f"Resumed from the checkpoint at step {step} of {total}")


def _receipt(course: Course, data: Data, *, base: BaseModel, precision: Precision) -> Receipt:
    spec, learner = course.spec, course.learner
    last = course.events.steps[learner.progress.step]
    validation = None
    if spec.validation_file and data.validation:
        validation = FileReceipt(file=spec.validation_file, report=data.validation)
    return Receipt(
        job_id=spec.job_id,
        base_model=spec.base_model.name,
        base_revision=base.revision,
        max_length=spec.max_length,
        training=FileReceipt(file=spec.training_file, report=data.training),
        validation=validation,
        held_out_examples=len(data.held_out),
        chat_template_sha256=sha256(str(learner.tokenizer.chat_template)),
        tokenizer_sha256=sha256(learner.tokenizer.backend_tokenizer.to_str(pretty=True)),
        precision=precision,
        threads=torch.get_num_threads(),
        libraries=libraries(),
        trained_tokens=learner.progress.trained_tokens,
        steps=learner.progress.step,
        final_train_loss=last.train_loss,
        final_valid_loss=last.valid_loss,
    )

"""One run from its spec to its outcome, as named steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.dataset.passages import within_context
from tunesmith.dataset.rendering import ensure_template
from tunesmith.dataset.thinking import think_marks
from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.errors import DiskFullError, StaleJobError
from tunesmith.domain.events import EventLevel, RunOutcome
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.spec import Method, Precision, RankingSpec, TrainSpec
from tunesmith.domain.verdicts import Verdict
from tunesmith.models import bringing
from tunesmith.models.bringing import BaseModel
from tunesmith.tracing import span
from tunesmith.training import checkpoints, devices
from tunesmith.training.adapter import (
    check_targets,
    context_length,
    load_config,
    load_tokenizer,
)
from tunesmith.training.answers import Respondent
from tunesmith.training.boards import boards
from tunesmith.training.checkpoints import Learner, Progress
from tunesmith.training.data import Data, Reader, read_data
from tunesmith.training.devices import Place
from tunesmith.training.embedding import Embedding
from tunesmith.training.ending import Ending, completed, not_passed
from tunesmith.training.examples import Examples, learnt_by
from tunesmith.training.failures import explain, naming_memory
from tunesmith.training.fitting import Room
from tunesmith.training.general import general_examples
from tunesmith.training.group import ALONE, Group, OutOfStepError, PeerLostError
from tunesmith.training.loading import load_network
from tunesmith.training.loop import Course, make_optimizer, result_step, run_loop, total_steps
from tunesmith.training.measuring import few, measure
from tunesmith.training.network import Network
from tunesmith.training.objective import Joint, Objective
from tunesmith.training.preferences import needs_reference, preference_objective
from tunesmith.training.receipt import FileReceipt, Receipt, libraries, sha256
from tunesmith.training.receipt_lines import write_lines
from tunesmith.training.reference import with_reference
from tunesmith.training.rerank import Rerank
from tunesmith.training.saving import Saver
from tunesmith.training.sentence import files_beside
from tunesmith.training.sharding import is_sharded, shard
from tunesmith.training.stopping import StopFlag
from tunesmith.training.supervised import Supervised
from tunesmith.training.telemetry import EventLog
from tunesmith.training.verdict import judge, keep_baseline
from tunesmith.training.whole_layers import is_tied

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Launch:
    """One attempt at a run, as one of its workers sees it."""

    run: RunDirectory
    """What it reads and writes."""
    artifacts: Artifacts
    """Where that is, and all other files."""
    attempt: int
    """Its number, from 1."""
    stop: StopFlag
    """Ends the process between two writes."""
    group: Group
    """Who takes part; the first rank alone writes."""
    device_index: int
    """Which of the devices that this process sees is its own."""


def train(
    run: RunDirectory,
    artifacts: Artifacts,
    *,
    attempt: int,
    stop: StopFlag,
    group: Group = ALONE,
    device_index: int = 0,
) -> RunOutcome:
    """Carry the run on to its end and return its outcome, which the event log then holds too.

    All ranks of `group` call this; the first one writes. `device_index` tells which of the devices
    that this process sees it is to train on.

    Raises `StaleJobError`, having written nothing more, if another attempt has
    claimed the run, and `PeerLostError` if another worker is gone. Anything else that goes wrong is
    the outcome. Where the disk has no room for the outcome either, it is returned alone.
    """
    launch = _Launch(run, artifacts, attempt, stop, group, device_index)
    try:
        with group.ending_together():
            events = EventLog(run, attempt, group=group)
        outcome = _outcome(launch, events)
        with stop.whole():
            events.outcome(outcome)
    except (OSError, DiskFullError) as error:
        if not disk_is_full(error):
            raise
        outcome = RunOutcome(error=explain(error))
        _log.exception("%s", explain(error).message)
    return outcome


def _outcome(launch: _Launch, events: EventLog) -> RunOutcome:
    try:
        return _train(launch, events)
    except (StaleJobError, OutOfStepError, PeerLostError):
        raise
    except Exception as error:  # noqa: BLE001  the run's edge: the client is told in any case
        _log.info("The run failed", exc_info=error)
        return RunOutcome(error=explain(error))


def _train(launch: _Launch, events: EventLog) -> RunOutcome:
    run, artifacts, group = launch.run, launch.artifacts, launch.group
    with group.ending_together():
        ending = _learn(launch, events)
        verdict = group.first(lambda: ending.in_full(events))
    passed = verdict is None or verdict.passed
    if group.leads and not ending.measured:
        with launch.stop.whole():
            if passed:
                checkpoints.publish(run, artifacts, step=ending.step, target=run.output)
            run.write_metrics(events.table())
            run.write_receipt(ending.receipt.model_dump_json(indent=2).encode())
    return RunOutcome(
        error=None if verdict is None or passed else not_passed(verdict),
        trained_tokens=ending.trained_tokens,
        verdict=None if verdict is None else verdict.outcome,
    )


def _learn(launch: _Launch, events: EventLog) -> Ending:
    """Take all steps; return what came of them."""
    run, artifacts, stop, group = launch.run, launch.artifacts, launch.stop, launch.group
    spec = run.read_spec()
    place, precision = _start(launch, spec, events=events)
    with span("bring the base model"):
        base = _bring(launch, spec, events=events)
    config = load_config(spec.base_model, base)
    check_targets(spec, config)
    spec = _within_context(spec, config, events=events)
    tokenizer = load_tokenizer(spec.base_model, base)
    if spec.ranking is None and ensure_template(tokenizer):
        events.message("The model has no chat template; the default one is used")
    _tell_marks(spec, tokenizer, events=events)
    with span("read the data"):
        data = read_data(Reader(spec, artifacts, tokenizer, context_length(config)), events)
    whole, data = data.learnt, few(data, spec) if spec.measured else data
    receipt = _receipt(spec, data, base=base, precision=precision, tokenizer=tokenizer)
    if group.leads:
        events.check_claim()
        run.write_receipt(receipt.model_dump_json(indent=2).encode())
        write_lines(run, tokenizer, files=data.lines)

    shown_by = spec if group.leads else spec.model_copy(update={"integrations": ()})
    with boards(shown_by, run, events=events, stop=stop) as shown, naming_memory(spec):
        network = load_network(spec, base, on=(place, precision), workers=group.size, events=events)
        _tell_tied(spec, network.model, events=events)
        newest = group.first(lambda: max(run.checkpoint_steps(), default=0))
        if spec.start_from is not None and not newest:
            checkpoints.start_from(spec.start_from, artifacts, model=network.model)
        total = total_steps(spec, len(data.learnt))
        if needs_reference(spec):
            chosen = learnt_by(
                total, count=len(data.learnt), batch_size=spec.batch_size, seed=spec.seed
            )
            room = Room(spec, network, events, stop, group)
            data = with_reference(data, run, room=room, chosen=chosen)
        network = _at_checkpoint(launch, spec, network=network, newest=newest)
        learner = Learner(
            network,
            tokenizer,
            make_optimizer(network.model, spec),
            Progress(),
            files_beside(spec, tokenizer, config=config),
        )
        if newest:
            checkpoints.restore(run, artifacts, learner=learner, step=newest)
            events.message(f"Resumed from the checkpoint at step {newest} of {total}")
        course = Course(
            spec=spec,
            events=events,
            stop=stop,
            saver=_saver(launch, spec, events=events),
            boards=shown,
            objective=_objective(spec),
            learner=learner,
            learnt=data.learnt,
            held_out=data.held_out,
            group=group,
        )
        found = _take_all(launch, course, learnt=whole, context=context_length(config))
    return Ending(
        receipt=receipt if spec.measured else completed(receipt, course),
        step=result_step(course),
        trained_tokens=learner.progress.trained_tokens,
        measured=spec.measured,
        held_out=data.held_out,
        verdict=found,
        by=Respondent(spec, run, artifacts, base, (place, precision), tokenizer),
    )


def _saver(launch: _Launch, spec: TrainSpec, *, events: EventLog) -> Saver:
    return Saver(
        launch.run,
        launch.artifacts,
        events=events,
        stop=launch.stop,
        keep=spec.keep_checkpoints,
        leads=launch.group.leads,
    )


def _take_all(
    launch: _Launch, course: Course, *, learnt: Examples, context: int | None
) -> Verdict | None:
    """Take all steps, or the few by which a job that may be created is measured.

    Return the verdict on the result, but for its answers, where there is one.
    """
    run, artifacts = launch.run, launch.artifacts
    if course.spec.measured:
        measured = measure(course, run, learnt=learnt)
        if course.group.leads:
            run.write_measurement(measured)
        return None
    general = None
    if len(course.held_out):
        general = general_examples(
            course.spec, artifacts, tokenizer=course.learner.tokenizer, context=context
        )
        keep_baseline(course, run, general=general)
    run_loop(course)
    return judge(course, run, artifacts=artifacts, general=general)


def _start(launch: _Launch, spec: TrainSpec, *, events: EventLog) -> tuple[Place, Precision]:
    """Return where this worker trains and in what precision, having told it of all."""
    torch.set_num_threads(spec.cpus)
    place = devices.find(spec.device, index=launch.device_index, workers=launch.group.size)
    precision = launch.group.first(lambda: place.precision(spec.precision))
    device = "" if place.is_cpu else f"{place.describe()} and "
    threads = f"{device}{spec.cpus} threads in {precision}"
    nodes = launch.group.exchange(launch.group.node)
    if len(nodes) > 1:
        ranks = ", ".join(f"rank {rank} of {node}" for rank, node in enumerate(nodes))
        divided = is_sharded(spec, workers=len(nodes))
        how = f"{threads}, the model divided among them" if divided else threads
        threads = f"{len(nodes)} workers with {how}: {ranks}"
    events.message(f"Training started (attempt {launch.attempt}) on {threads}")
    return place, precision


def _bring(launch: _Launch, spec: TrainSpec, *, events: EventLog) -> BaseModel:
    """Bring the base model, the same one in each attempt, though its branch may have moved on.

    The first rank brings it before the others, which find what it prepared. A tuned model that
    stands in its place is where it always was.
    """
    run, artifacts = launch.run, launch.artifacts
    if spec.beneath is not None:
        return bringing.tuned(spec.beneath, artifacts)

    def bring() -> tuple[CatalogueEntry, BaseModel]:
        entry = run.pinned_base_model() or spec.base_model
        base = bringing.bring(entry, artifacts, announce=events.message)
        events.check_claim()
        entry = bringing.pinned(entry, base)
        run.pin_base_model(entry)
        return entry, base

    entry, base = launch.group.first(bring)
    if launch.group.leads:
        return base
    return bringing.bring(entry, artifacts, announce=events.message)


def _at_checkpoint(launch: _Launch, spec: TrainSpec, *, network: Network, newest: int) -> Network:
    """Return `network` with the weights of the `newest` checkpoint, 0 for none, ready for steps."""
    if newest:
        checkpoints.restore_weights(launch.run, launch.artifacts, model=network.model, step=newest)
    if not is_sharded(spec, workers=launch.group.size):
        return network
    return shard(network.model, group=launch.group, place=network.place)


def _tell_tied(spec: TrainSpec, model: PeftModel | PreTrainedModel, *, events: EventLog) -> None:
    if spec.lora is None or not spec.lora.also_train or not isinstance(model, PeftModel):
        return
    if is_tied(model.get_base_model()):
        events.message("The head shares its weights with the embeddings: they are trained as one")


def _within_context(spec: TrainSpec, config: PretrainedConfig, *, events: EventLog) -> TrainSpec:
    context = context_length(config)
    if context is not None and spec.ranking is not None:
        return _ranking_within(context, spec, ranking=spec.ranking, events=events)
    if context is None or context >= spec.max_length:
        return spec
    events.message(
        f"The base model takes {context} tokens at once; the maximum length is {context}, "
        f"not {spec.max_length}",
        level=EventLevel.WARN,
        data={"max_length": context},
    )
    return spec.model_copy(update={"max_length": context})


def _tell_marks(spec: TrainSpec, tokenizer: PreTrainedTokenizerBase, *, events: EventLog) -> None:
    if spec.method is not Method.REASONING:
        return
    begin, end = think_marks(tokenizer, spec.think)
    if (begin, end) == spec.think:
        events.message(f"Thoughts are marked by {begin} and {end}")
    else:
        events.message(
            f"Thoughts are marked by {begin} and {end}, which are the model's own, not by "
            f"{' and '.join(spec.think)}",
            level=EventLevel.WARN,
        )


def _ranking_within(
    context: int, spec: TrainSpec, *, ranking: RankingSpec, events: EventLog
) -> TrainSpec:
    """Return `spec` with lengths that the model takes."""
    shorter = within_context(ranking, method=spec.method, context=context)
    if shorter == ranking:
        return spec
    events.message(
        f"The base model takes {context} tokens at once; the lengths are {shorter.query_max_len} "
        f"for queries and {shorter.passage_max_len} for passages, not {ranking.query_max_len} and "
        f"{ranking.passage_max_len}",
        level=EventLevel.WARN,
        data=shorter.model_dump(include={"query_max_len", "passage_max_len"}),
    )
    return spec.model_copy(update={"ranking": shorter})


def _objective(spec: TrainSpec) -> Objective | Joint:
    match spec.method:
        case Method.SUPERVISED | Method.REASONING | Method.PRETRAINING:
            return Supervised()
        case Method.DPO:
            return preference_objective(spec)
        case Method.EMBEDDING:
            assert spec.ranking is not None  # noqa: S101  the spec is frozen with it
            return Embedding(spec.ranking, spec.batch_size)
        case Method.RERANK:
            return Rerank()
        case _:
            raise ValueError(f"No objective learns by the method '{spec.method}'.")


def _receipt(
    spec: TrainSpec,
    data: Data,
    *,
    base: BaseModel,
    precision: Precision,
    tokenizer: PreTrainedTokenizerBase,
) -> Receipt:
    validation = None
    if spec.validation_file and data.validation:
        validation = FileReceipt(file=spec.validation_file, report=data.validation.report)
    return Receipt(
        job_id=spec.job_id,
        base_model=spec.base_model.name,
        base_revision=base.revision,
        max_length=spec.max_length,
        ranking=spec.ranking,
        training=FileReceipt(file=spec.training_file, report=data.training.report),
        validation=validation,
        held_out_examples=len(data.held_out),
        chat_template_sha256=sha256(str(tokenizer.chat_template)) if spec.ranking is None else None,
        tokenizer_sha256=sha256(tokenizer.backend_tokenizer.to_str(pretty=True)),
        precision=precision,
        threads=torch.get_num_threads(),
        libraries=libraries(),
    )

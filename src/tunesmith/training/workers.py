"""One run on several workers: the driver starts them by Ray Train, and each takes part in the run.

The driver is the entrypoint of the submission. It trains nothing: it waits, hands a stop on to the
first rank, which saves what was reached, and tells which worker died first where one has.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError
from ray.train import (
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    get_context,
)
from ray.train.torch import TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import distributed

from tunesmith.artifacts.opening import lacking, open_artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.errors import DiskFullError, TunesmithError
from tunesmith.domain.events import EventLevel, RunOutcome
from tunesmith.domain.failures import EXIT_NO_DATA, EXIT_NODE_LOST, EXIT_WORKER_LOST
from tunesmith.domain.spec import TrainSpec
from tunesmith.models.environment import ENVIRONMENT
from tunesmith.tracing import span, start_tracing, stop_tracing, traceparent
from tunesmith.training.failures import explain
from tunesmith.training.group import Group, OutOfStepError, PeerLostError, TorchLine
from tunesmith.training.interfaces import NamedInterfaces
from tunesmith.training.run import train
from tunesmith.training.run_log import RunLog
from tunesmith.training.stopping import StopFlag
from tunesmith.training.switchboard import Switchboard
from tunesmith.training.telemetry import EventLog

_log = logging.getLogger(__name__)

_RAY_TRAIN = {
    # Seconds between two looks at the workers, by which their end is seen.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Seconds that workers wait for their processors, which the controller saw free.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    # A worker is known to be of this head by its folder.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A node that is taken away is a lost worker like any other.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
"""Settings of Ray Train, which it reads from the driver's environment."""

_STARTS = 3
"""How often it is tried to start the workers, with `RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S`."""

_WEEK = 7 * 24 * 3600
"""Seconds that a rank waits for the others, who may prepare a model or evaluate; one that dies is
noticed at once."""

_STOP_PATIENCE = 3.5
"""Seconds that a stop waits for the first rank; Ray kills after 4 s."""

_LAST_WORDS = 10.0
"""Seconds that a worker which misses another lives on, so that the other is seen to die first."""


_GIVEN_UP_WITHIN = 90.0
"""Seconds until a node that does not answer is given up by Ray, by its own settings."""

_NODE_GONE = "its node is gone."
"""What is said of a worker that died with its node."""


class NoDataError(TunesmithError):
    """A worker's node lacks the data folder, or the bucket."""


@dataclass(frozen=True)
class Part:
    """What a worker needs to know to take part in a run."""

    data: str
    """Where the artifacts are for all nodes: the data folder, which they share, or a bucket."""
    job: str
    """The job's id."""
    attempt: int
    """Number of this launch."""
    switchboard: Any
    """The actor by which the driver is reached, a `Switchboard`."""
    traceparent: str | None = None
    """The driver's span; `None` where nothing is traced."""


def drive(data: str, run: RunDirectory, *, attempt: int, stop: StopFlag) -> RunOutcome | int:
    """Let workers carry the run on to its end, and return its outcome.

    Where one of them is gone, it is told, and the exit code of such a driver is returned. Where one
    had no memory for its part of a model that is divided, all begin anew with less. Raises
    `StaleJobError` where another attempt has claimed the run.
    """
    spec = run.read_spec()
    os.environ.update(_RAY_TRAIN)
    ray.init(logging_level=logging.WARNING, log_to_driver=False)
    # It is to be there as long as this process, whichever other node is lost.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    switchboard = ray.remote(num_cpus=0, scheduling_strategy=here)(Switchboard).remote()
    stop.save_with(lambda: ray.get(switchboard.stop.remote(), timeout=_STOP_PATIENCE))
    part = Part(data, spec.job_id, attempt, switchboard, traceparent())
    while True:
        ray.get(switchboard.begin.remote())
        ended = _fit(spec, part)
        if isinstance(ended, RunOutcome):
            return ended
        try:
            settled = _settle(ended, run, part=part, stop=stop)
        except (OSError, DiskFullError) as error:
            if not disk_is_full(error):
                raise
            return RunOutcome(error=explain(error))
        if settled is not None:
            return settled


def _settle(
    failure: TrainingFailedError, run: RunDirectory, *, part: Part, stop: StopFlag
) -> RunOutcome | int | None:
    """Tell how the workers failed; return how the driver ends, or `None` to begin anew."""
    rank, first = _first(failure)
    if isinstance(first, NoDataError):
        _log.error("%s", first)
        return EXIT_NO_DATA
    if not isinstance(first, OutOfStepError):
        nodes = ray.get(part.switchboard.nodes.remote())
        told = _obituary(rank, first, failure=failure, nodes=nodes)
        _log.error("%s", told, exc_info=failure)
        with stop.whole():
            EventLog(run, part.attempt).message(told, level=EventLevel.WARN)
        return EXIT_NODE_LOST if told.endswith(_NODE_GONE) else EXIT_WORKER_LOST
    _log.warning("Rank %s broke off: %s", rank, first)
    with stop.whole():
        events = EventLog(run, part.attempt)
        if first.limit is None:
            outcome = RunOutcome(error=first.error)
            events.outcome(outcome)
            return outcome
        of, most = first.limit
        events.too_large(of, most=most)
    return None


def _fit(spec: TrainSpec, part: Part) -> RunOutcome | TrainingFailedError:
    """Let workers carry the run on; return its outcome, or how they failed."""
    with open_artifacts(part.data).scratch() as folder:
        try:
            outcome: RunOutcome = _trainer(spec, part, folder=folder).fit().return_value
        except TrainingFailedError as error:
            return error
        return outcome


def _trainer(spec: TrainSpec, part: Part, *, folder: Path) -> TorchTrainer:
    memory = {} if spec.memory is None else {"memory": spec.memory}
    device = spec.device.resource
    held = {"CPU": spec.cpus, **memory} | ({} if device is None else {device: 1})
    return TorchTrainer(
        take_part,
        train_loop_config={"part": part},
        torch_config=NamedInterfaces(device=spec.device, timeout_s=_WEEK),
        scaling_config=ScalingConfig(
            num_workers=spec.workers, use_gpu=device == "GPU", resources_per_worker=held
        ),
        run_config=RunConfig(
            name=f"{part.job}-{part.attempt}",
            storage_path=str(folder),
            # The controller launches a run again: it counts, and the next attempt claims the run.
            failure_config=FailureConfig(
                max_failures=0, max_preemption_failures=0, controller_failure_limit=_STARTS - 1
            ),
            worker_runtime_env={"env_vars": ENVIRONMENT},
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def take_part(config: Mapping[str, Part]) -> RunOutcome:
    """Train the run as one of its workers; Ray Train calls this in each of them.

    Raises `NoDataError` where its node lacks the data folder, `PeerLostError` where another worker
    is gone, and `OutOfStepError` where this one breaks off and the others wait for it.
    """
    part = config["part"]
    rank = get_context().get_world_rank()
    node = f"{ray.util.get_node_ip_address()} (process {os.getpid()})"
    ray.get(part.switchboard.arrive.remote(rank, node))
    told = lacking(part.data, part.job, node=node)
    if told is not None:
        raise NoDataError(told)
    artifacts = open_artifacts(part.data)
    run = RunDirectory(artifacts, part.job)
    stop = StopFlag(partial(_leave, part.switchboard))
    with _keeping_log(RunLog(run, artifacts, attempt=part.attempt, rank=rank)):
        _log.info("Takes part as process %s", os.getpid())
        if rank == 0:
            _heed_stop(part.switchboard, stop)
            if part.traceparent is not None:
                start_tracing("training")
        group = Group(rank, distributed.get_world_size(), node, TorchLine())
        try:
            with span("rank", parent=part.traceparent, rank=rank):
                return train(
                    run,
                    artifacts,
                    attempt=part.attempt,
                    stop=stop,
                    group=group,
                    device_index=get_device().index or 0,
                )
        except (OutOfStepError, PeerLostError):
            time.sleep(_LAST_WORDS)
            raise
        finally:
            stop_tracing()


def _heed_stop(switchboard: Any, stop: StopFlag) -> None:
    """Call `stop.stop` once the driver asks for it, or is gone."""

    def wait() -> None:
        with suppress(RayError):
            ray.get(switchboard.asked.remote())
        _log.info("Asked to stop")
        stop.stop()

    threading.Thread(target=wait, name="stop", daemon=True).start()


def _leave(switchboard: Any, code: int) -> None:
    with suppress(RayError):
        ray.get(switchboard.leave.remote(), timeout=1)
    os._exit(code)


@contextmanager
def _keeping_log(kept: RunLog) -> Iterator[None]:
    """Keep what this worker logs in the run directory, which they all write to."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(kept)
    try:
        yield
    finally:
        kept.flush()


def _first(failure: TrainingFailedError) -> tuple[int, Exception | None]:
    """Return the rank that failed first, and of what; no exception where none was started."""
    failures: Mapping[int, Exception] = getattr(failure, "worker_failures", {})

    def place(rank: int) -> tuple[bool, bool, int]:
        # One that is gone went before those that break off without it, or miss it.
        error = failures[rank]
        return isinstance(error, PeerLostError), isinstance(error, OutOfStepError), rank

    rank = min(failures, key=place, default=0)
    return rank, failures.get(rank)


def _obituary(
    rank: int, error: Exception | None, *, failure: TrainingFailedError, nodes: Mapping[int, str]
) -> str:
    """Return where and why `rank` died, which was the first, with `error`."""
    if error is None:
        return f"The workers could not be started: {str(failure).strip().splitlines()[-1]}"
    place = nodes.get(rank)
    why = _cause(error, address=place and place.partition(" ")[0])
    return f"Rank {rank} of {place or 'an unknown node'} died first: {why}"


def _cause(error: Exception, *, address: str | None) -> str:
    """Return why a worker of the node at `address` died that Ray Train says `error` of."""
    died = getattr(error, "health_check_failure", error)
    if not isinstance(died, RayError):
        return f"{type(died).__name__}: {died}"
    words = str(died)
    if "node has died" in words:
        return _NODE_GONE
    if isinstance(died, ActorUnavailableError):
        # It cannot be reached; Ray takes its time until it says that the whole node cannot.
        gone = address is not None and _is_given_up(address)
        return _NODE_GONE if gone else "it can no longer be reached."
    if "low on memory" in words:
        return "its node ran out of memory, and Ray ended it."
    if "worker process has died" in words:
        return "its process was killed or crashed; most often the node ran out of memory."
    return words.strip().splitlines()[-1]


def _is_given_up(address: str) -> bool:
    """Tell whether Ray gives the node at `address` up, for which it is waited."""
    limit = time.monotonic() + _GIVEN_UP_WITHIN
    while time.monotonic() < limit:
        there = [node for node in ray.nodes() if node["NodeManagerAddress"] == address]
        if not any(node["Alive"] for node in there):
            return True
        time.sleep(1)
    return False

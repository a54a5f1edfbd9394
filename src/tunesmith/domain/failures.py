"""The stable codes of a failed job, `error.code` on the wire."""

from __future__ import annotations

from enum import StrEnum


class FailureCode(StrEnum):
    """Why a job failed; each code is explained in `docs/reference/errors.md`."""

    INVALID_TRAINING_FILE = "invalid_training_file"
    INVALID_VALIDATION_FILE = "invalid_validation_file"
    NOTHING_TO_LEARN = "nothing_to_learn"
    INVALID_HYPERPARAMETERS = "invalid_hyperparameters"
    MODEL_UNAVAILABLE = "model_unavailable"
    LOSS_NOT_FINITE = "loss_not_finite"
    LOSS_EXPLODED = "loss_exploded"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    RESOURCES_UNAVAILABLE = "resources_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    GATE_NOT_PASSED = "gate_not_passed"
    WORKER_LOST = "worker_lost"
    INTERNAL_ERROR = "internal_error"


EXIT_WORKER_LOST = 4
"""Exit code of a driver one of whose workers died, as the run's events tell."""

EXIT_NODE_LOST = 5
"""Exit code of a driver one of whose workers died with its node, which is no fault of the job."""

EXIT_DISK_FULL = 28
"""Exit code of a training process that found the disk full, perhaps too full to say so: ENOSPC."""

EXIT_NO_DATA = 6
"""Exit code of a process on a node that lacks the data folder, as the line that it prints tells."""


def no_data(location: str, node: str) -> str:
    """Return what is told where `node`, its name and address, does not see the data at `location`.

    That is the data folder, or a bucket.
    """
    if location.startswith("s3://"):
        return f"Node {node} does not have the data of {location}: give it the bucket's AWS_… keys."
    folder = location
    return f"Node {node} does not have the data folder {folder}: let all nodes share it."

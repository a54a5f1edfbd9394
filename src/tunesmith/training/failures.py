"""Says why a run failed, in the stable codes that clients see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from tunesmith.domain.changes import Change, first_change, in_words, smaller_model
from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.errors import ModelUnavailableError, TunesmithError
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import JobError
from tunesmith.domain.spec import TrainSpec


class RunFailedError(TunesmithError):
    """The run cannot go on.

    It never leaves this room: it becomes the run's outcome.
    """

    def __init__(
        self,
        code: FailureCode,
        message: str,
        *,
        param: str | None = None,
        change: Change | None = None,
    ) -> None:
        """Take a stable code, what went wrong with the mend, and the request's field at fault.

        `change` is the mend for programs, where one of the request helps.
        """
        super().__init__(message)
        self.error = JobError(code=code, message=message, param=param, change=change)
        """What the client is told."""


_NO_MEMORY = ("can't allocate memory", "out of memory", "devmem allocation failed")
"""Words by which the allocators of the processor and of devices say that there was no more."""


def explain(error: Exception) -> JobError:
    """Return what the client is told of `error`; a traceback is for the log alone."""
    if isinstance(error, RunFailedError):
        return error.error
    if isinstance(error, ModelUnavailableError):
        return JobError(code=FailureCode.MODEL_UNAVAILABLE, message=error.message, param="model")
    if disk_is_full(error):
        return JobError(
            code=FailureCode.DISK_FULL,
            message="The disk of the data folder is full. Free some space and create the job anew.",
        )
    return JobError(
        code=FailureCode.INTERNAL_ERROR,
        message=f"Training ended with {type(error).__name__}: {error}",
    )


@contextmanager
def naming_memory(spec: TrainSpec) -> Iterator[None]:
    """Turn a refused allocation inside the block into a failure that names a smaller setting.

    What is refused while examples go through the model is told by `fitting`, with the line.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        four_bits = find_spec("bitsandbytes") is not None
        mends = smaller_model(spec, four_bits=four_bits)
        raise RunFailedError(
            FailureCode.OUT_OF_MEMORY,
            f"The model, and what is kept to train it, do not fit into memory. {in_words(mends)}",
            change=first_change(mends),
        ) from error


def is_memory(error: BaseException) -> bool:
    """Tell whether `error` says that there was no more memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # Some allocators raise a plain RuntimeError.
    words = str(error).lower()
    return any(each in words for each in _NO_MEMORY)

"""Checks, repairs or shows one file in a process of its own: `python -m tunesmith.dataset`.

The first line of standard input is a `FileTask`; the open files that it names
by number are inherited. The report is written to standard output as JSON. When
standard input closes before that, nobody waits any longer, and the process ends.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack

from tunesmith.dataset.pool import Workers
from tunesmith.dataset.repair import repair
from tunesmith.dataset.showing import show_row
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.disk import disk_is_full
from tunesmith.domain.errors import TunesmithError
from tunesmith.domain.shown_rows import AskedRow
from tunesmith.domain.validation import FileTask

EXIT_REFUSED = 3
"""Exit code where the task cannot be done; standard output says why."""
EXIT_DISK_FULL = 4
"""Exit code where there is no room for the copy."""


def main() -> int:
    """Do the task on standard input and return the exit code."""
    # Answering requests and training go first.
    os.nice(5)
    task = FileTask.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        answer = _answer(task)
    except TunesmithError as error:
        sys.stdout.write(error.message)
        return EXIT_REFUSED
    except OSError as error:
        if disk_is_full(error):
            return EXIT_DISK_FULL
        raise
    sys.stdout.write(answer)
    return 0


def _answer(task: FileTask) -> str:
    if task.repaired is not None:
        return _repair(task, task.repaired)
    if task.row is not None and task.tokenizer is not None:
        return _show(task, task.row, tokenizer=FolderTokenizer(task.tokenizer))
    return _validate(task)


def _show(task: FileTask, asked: AskedRow, *, tokenizer: FolderTokenizer) -> str:
    with os.fdopen(task.file, "rb") as file:
        row = show_row(file, task.options, tokenizer=tokenizer, asked=asked)
    return row.model_dump_json() if row is not None else "null"


def _validate(task: FileTask) -> str:
    held_out = os.fdopen(task.held_out, "rb") if task.held_out is not None else None
    report = validate(
        Sources(os.fdopen(task.file, "rb"), held_out),
        task.options,
        tokenizer=FolderTokenizer(task.tokenizer) if task.tokenizer else None,
        # The thread of this process only waits, and holds no lock.
        workers=Workers(task.workers, fork=True),
    )
    return report.model_dump_json()


def _repair(task: FileTask, repaired: int) -> str:
    with ExitStack() as opened:
        file = opened.enter_context(os.fdopen(task.file, "rb"))
        copy = opened.enter_context(os.fdopen(repaired, "r+b"))
        diff = opened.enter_context(os.fdopen(task.diff, "r+b")) if task.diff is not None else None
        return repair(file, copy, diff=diff).model_dump_json()


def _follow_parent() -> None:
    # Not through `sys.stdin`, whose lock a thread that waits would hold at the interpreter's end.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())

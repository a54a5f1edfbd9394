"""Has files checked, repaired and shown by processes of their own; the API answers meanwhile."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter

from tunesmith.domain.errors import (
    DiskFullError,
    InvalidRequestError,
    RateLimitError,
    SystemFaultError,
    TokenizerMissingError,
)
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.repair import RepairReport
from tunesmith.domain.shown_rows import AskedRow, ShownRow
from tunesmith.domain.validation import FileTask, ValidationOptions, ValidationReport

AT_ONCE = 2
"""Files that are checked at the same time; the others wait."""
MOST_WAITING = 16
"""Requests that may wait for their turn; one more is refused with 429."""

_RETRY_AFTER = 10
_PIECE = 4 * 2**20
"""Bytes of a file without a descriptor that are copied at a time."""
_REFUSED = 3
"""Exit code with which the process says on standard output why it cannot do it."""
_DISK_FULL = 4
"""Exit code with which it says that there is no room for what it writes."""
_SHOWN: TypeAdapter[ShownRow | None] = TypeAdapter(ShownRow | None)
_COMMAND = (sys.executable, "-m", "tunesmith.dataset")


class FileChecks:
    """Checks a few files at once, each in a process of its own that ends when nobody waits."""

    def __init__(self, tokenizer_folder: Callable[[CatalogueEntry], Path], *, workers: int) -> None:
        """Count tokens with what `tokenizer_folder` finds; let each check use `workers` processes.

        `tokenizer_folder` raises `TokenizerMissingError`, and may take a while.
        """
        self._tokenizer_folder = tokenizer_folder
        self._workers = workers
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def validate(
        self,
        file: BinaryIO,
        options: ValidationOptions,
        *,
        held_out: BinaryIO | None = None,
        entry: CatalogueEntry | None = None,
    ) -> ValidationReport:
        """Return the report on `file`; it is compared with `held_out`, tokens are those of `entry`.

        Cancelled, it ends the process. Raises `RateLimitError` where too many wait,
        `TokenizerMissingError` where tokens cannot be counted.
        """
        with self._place():
            # A tokenizer may have to come from afar, which is no reason for others to wait.
            folder = await asyncio.to_thread(self._tokenizer_folder, entry) if entry else None
            async with self._turns:
                with ExitStack() as opened:
                    task = FileTask(
                        file=await _descriptor(file, opened),
                        held_out=await _descriptor(held_out, opened) if held_out else None,
                        tokenizer=folder,
                        workers=self._workers,
                        options=options,
                    )
                    try:
                        return ValidationReport.model_validate_json(await _done(task))
                    except _RefusedError as error:
                        raise TokenizerMissingError(str(error)) from None

    async def show(
        self,
        file: BinaryIO,
        options: ValidationOptions,
        *,
        entry: CatalogueEntry,
        asked: AskedRow,
    ) -> ShownRow | None:
        """Return the row of `file` as `entry` sees it, or `None` where there is no such row.

        Cancelled, it ends the process. Raises `RateLimitError` where too many wait,
        `TokenizerMissingError` where no tokens can be made.
        """
        with self._place():
            folder = await asyncio.to_thread(self._tokenizer_folder, entry)
            async with self._turns:
                with ExitStack() as opened:
                    task = FileTask(
                        file=await _descriptor(file, opened),
                        tokenizer=folder,
                        options=options,
                        row=asked,
                    )
                    try:
                        return _SHOWN.validate_json(await _done(task))
                    except _RefusedError as error:
                        raise TokenizerMissingError(str(error)) from None

    async def repair(
        self, file: BinaryIO, copy: BinaryIO, *, diff: BinaryIO | None = None
    ) -> RepairReport:
        """Write the repaired copy of `file` to `copy` and its unified diff to `diff`.

        Both are empty files. Cancelled, it ends the process. Raises `RateLimitError`
        where too many wait, `InvalidRequestError` for a file that cannot be repaired,
        and `DiskFullError`.
        """
        with self._place():
            async with self._turns:
                with ExitStack() as opened:
                    task = FileTask(
                        file=await _descriptor(file, opened),
                        repaired=copy.fileno(),
                        diff=diff.fileno() if diff else None,
                    )
                    try:
                        return RepairReport.model_validate_json(await _done(task))
                    except _RefusedError as error:
                        raise InvalidRequestError(
                            str(error), param="file_id", code="file_not_repairable"
                        ) from None

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take a place among those who wait; raises `RateLimitError` where there is none."""
        if self._waiting >= MOST_WAITING:
            raise RateLimitError(
                "Too many files wait to be checked. Try again in a moment.",
                retry_after=_RETRY_AFTER,
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


class _RefusedError(Exception):
    """The process cannot do its task; the text says why."""


async def _done(task: FileTask) -> bytes:
    """Return what the process that does `task` answers."""
    named = (task.file, task.held_out, task.repaired, task.diff)
    inherited = [number for number in named if number is not None]
    child = await asyncio.create_subprocess_exec(
        *_COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=inherited,
    )
    try:
        assert child.stdin is not None  # noqa: S101  as asked for
        assert child.stdout is not None  # noqa: S101
        child.stdin.write(task.model_dump_json().encode() + b"\n")
        # Not closed before the end: the process takes that for our death.
        answer = await child.stdout.read()
        code = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if code == _REFUSED:
        raise _RefusedError(answer.decode())
    if code == _DISK_FULL:
        raise DiskFullError
    if code:
        raise SystemFaultError(f"The check of a file ended with code {code}.")
    return answer


async def _descriptor(stream: BinaryIO, opened: ExitStack) -> int:
    """Return a descriptor of `stream`, which is copied to a file if it has none.

    That is so of files in a bucket, which take their time to arrive; others are answered meanwhile.
    """
    try:
        return stream.fileno()
    except OSError:
        file = opened.enter_context(await asyncio.to_thread(tempfile.TemporaryFile))
    while await asyncio.to_thread(_copy_some, stream, file):
        pass
    return file.fileno()


def _copy_some(stream: BinaryIO, file: BinaryIO) -> int:
    """Copy the next bytes of `stream` to `file`; at the end rewind it, and return 0."""
    size = file.write(stream.read(_PIECE))
    if not size:
        file.seek(0)
    return size

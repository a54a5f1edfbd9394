"""Writes the Parquet file at its standard input as JSON Lines; a process of its own.

Parquet is read by native code, and a small file can ask for any memory. So this
runs with bounded memory, apart from the service, and knows nothing of it. Each
line is a row's object; or a text, what is wrong with the row; or, last, an
array of a rule and a text, why the file cannot be read on.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

MEMORY = 2**30
"""Most bytes of data that the process may have."""

MAX_RATIO = 200
"""How many times larger than the file its rows may be, from 64 MiB of them on."""

_UNBOUNDED = 64 * 2**20
_BATCH = 32


def json_lines(file: BinaryIO, *, size: int) -> Iterator[bytes]:
    """Yield the lines for the rows of `file`, which has `size` bytes, without line ends."""
    written = 0
    try:
        for line in _rows(pq.ParquetFile(file, buffer_size=2**16)):
            yield line
            written += len(line) + 1
            if written > max(_UNBOUNDED, MAX_RATIO * size):
                fault = f"the rows are over {MAX_RATIO} times larger than the file"
                yield orjson.dumps(["unpacked_too_large", fault])
                return
    except MemoryError:
        fault = f"to read on, over {MEMORY // 2**20} MiB of memory are needed at once"
        yield orjson.dumps(["unpacked_too_large", fault])
    # The library raises what its native code meets, of many kinds; each means a bad file.
    except Exception as error:  # noqa: BLE001
        fault = f"the file is damaged ({' '.join(str(error)[:200].split())})"
        yield orjson.dumps(["invalid_parquet", fault])


def _rows(table: pq.ParquetFile) -> Iterator[bytes]:
    names = table.schema_arrow.names
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        fault = f"the column {twin[:40]!a} occurs twice"
        yield orjson.dumps(["duplicate_key", fault])
        return
    for batch in table.iter_batches(_BATCH, use_threads=False):
        for at in range(batch.num_rows):
            yield _row(batch.slice(at, 1))


def _row(one: pa.RecordBatch) -> bytes:
    try:
        return orjson.dumps(_given(one.to_pylist()[0]), default=_text)
    except (ValueError, TypeError, RecursionError) as error:
        # So are texts that are not UTF-8, and values that JSON has no kind for.
        return orjson.dumps(f"its values are no JSON ({str(error)[:200]!a})")


def _given(value: Any) -> Any:
    """Return `value` without what is null in its objects: Parquet's structs have every key."""
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_given(item) for item in value]
    return value


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def main() -> None:
    """Copy standard input to standard output."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(0, "rb", buffering=0, closefd=False) as file:
        for line in json_lines(file, size=os.fstat(0).st_size):
            sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()
    # Arrow's threads sometimes break while the interpreter ends, which would look like damage.
    os._exit(0)


if __name__ == "__main__":
    main()

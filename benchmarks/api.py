"""All benchmarks of the API and of training files: `make bench-api`.

Ends with one line of JSON:

- `upload_vs_cp_sha256`: rate of an upload over loopback, against `cp` plus `sha256sum` of the
  same file; at least 0.5 is wanted.
- `upload_growth_mb`: by how many MB the API's memory grows for a file of 1 GB; below 50.
- `validate_vs_datasets`: rate of a file's check, against `datasets` and a plain loop over its
  rows; at least 3.
- `tokens_vs_tokenizers`: rate of a check that counts tokens, against `tokenizers` alone; at
  least 0.8.
- `list_p99_ms`: slowest kind of list with 100,000 jobs and 16 clients, 99th percentile; below 20.
"""

from __future__ import annotations

import json

import lists
import upload
import validate


def main() -> None:
    """Run each benchmark in its turn, and print all figures as the last line."""
    figures: dict[str, float] = {}
    for benchmark in (upload, validate, lists):
        print(f"== {benchmark.__name__}", flush=True)
        figures |= benchmark.main()
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()

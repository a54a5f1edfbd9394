"""What training costs where it grows, ours alone: `make bench-growth`.

- Rows: a random Llama of 2 layers learns 20 steps of 16 chat rows from files of ever more rows. A
  step is to cost the same however many there are; reading and encoding costs the same for each.
- Length: SmolLM2-135M learns, with LoRA on all linear layers, steps of 2,048 tokens in texts of
  ever more tokens. A token may cost as much more as attention takes more operations, as `Cost`
  in `base_models.py` counts them.
- Steps: the random Llama takes 2,000 steps, with a checkpoint every 500, and holds no more memory
  at the end.

All is generated, so that nothing else is needed. Memory is that which the system cannot take back:
what is read of a file of tokens, it keeps in memory while there is room.

Ends with one line of JSON:

- `tokens_growth_rows`: time of a token in the steps with the most rows, against the fewest; 1 is
  wanted. `preparation_ms_per_row`: what each further row adds to the time before the first step.
- `memory_growth_rows`: peak memory with the most rows, against the fewest; `memory_bytes_per_row`:
  what each further row adds to it.
- `length_growth_over_attention`: growth of a token's time from the shortest texts to the longest,
  against that of its operations; at most 1 is wanted.
- `memory_growth_2000_steps_mb`: memory around the last step less that around step 200.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rows
from base_models import Cost, smollm2, tiny
from trials import OurRun, Trials

from tunesmith.domain.spec import Method

ROWS = (1_000, 10_000, 100_000)
LENGTHS = (128, 256, 512, 1024, 2048)
STEPS = 2_000
_TOKENS_PER_STEP = 2048


@dataclass(frozen=True)
class OfRows:
    """What a file of so many rows cost."""

    rows: int
    """Rows of the file."""
    prepared: float
    """Seconds from the start of the process to the first step."""
    seconds_per_token: float
    """Of the steps."""
    peak_mb: float
    """Most memory of the process's own."""


def main() -> dict[str, float]:
    """Measure all three, print what was found, and the figures as the last line."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        trials = Trials(Path(folder))
        real = smollm2(trials.data)
        small = tiny(Path(folder) / "tiny", tokenizer_of=real)
        figures = _by_rows(trials, small, counts=arguments.rows)
        figures |= _by_length(trials, real, steps=arguments.steps_each)
        figures |= _by_steps(trials, small, steps=arguments.steps)
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}))
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where models and rows are written")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="such as 1000 1000000")
    parser.add_argument("--steps-each", type=int, default=4, help="steps of each length")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the long run, over 400")
    return parser.parse_args()


def _by_rows(trials: Trials, model: Path, *, counts: Sequence[int]) -> dict[str, float]:
    found = [_of_rows(trials, model, count=count) for count in counts]
    few, many = found[0], found[-1]
    further = many.rows - few.rows
    return {
        "tokens_growth_rows": many.seconds_per_token / few.seconds_per_token,
        "preparation_ms_per_row": (many.prepared - few.prepared) / further * 1e3,
        "memory_growth_rows": many.peak_mb / few.peak_mb,
        "memory_bytes_per_row": (many.peak_mb - few.peak_mb) / further * 1e6,
    }


def _of_rows(trials: Trials, model: Path, *, count: int) -> OfRows:
    run = trials.ours(model, rows.generated(count), max_steps=20)
    found = OfRows(
        rows=count,
        prepared=run.at("Step 1/") - run.begun,
        seconds_per_token=_typical(run),
        peak_mb=run.memory.peak_own_mb,
    )
    print(
        f"{count:9,} rows   {found.prepared:7.1f} s to the first step   "
        f"{found.seconds_per_token * 1e6:6.1f} µs a token   {found.peak_mb:6.0f} MB, "
        f"{run.memory.peak_mb:6.0f} MB with files",
        flush=True,
    )
    return found


def _by_length(trials: Trials, model: Path, *, steps: int) -> dict[str, float]:
    cost = Cost.of(model)
    seconds, operations = [], []
    for length in LENGTHS:
        run = trials.ours(
            model,
            rows.of_length(steps * _TOKENS_PER_STEP // length, length),
            method=Method.PRETRAINING,
            max_length=length,
            batch_size=_TOKENS_PER_STEP // length,
        )
        seconds.append(_typical(run))
        operations.append(cost.products(1.0) + cost.attended(length))
        print(
            f"{length:5} tokens   {seconds[-1] * 1e3:6.2f} ms a token, "
            f"{seconds[-1] / seconds[0]:5.2f} times the shortest's   "
            f"{operations[-1] / 1e6:5.0f} MFLOP a token, {operations[-1] / operations[0]:5.2f} "
            f"times   {run.memory.peak_mb:6.0f} MB",
            flush=True,
        )
    growth = seconds[-1] / seconds[0]
    return {"length_growth_over_attention": growth / (operations[-1] / operations[0])}


def _by_steps(trials: Trials, model: Path, *, steps: int) -> dict[str, float]:
    run = trials.ours(
        model,
        rows.generated(4 * steps),
        batch_size=4,
        max_steps=steps,
        checkpoint_every=500,
        n_epochs=1,
    )
    early = run.memory.between(run.at("Step 150/"), run.at("Step 250/"))
    late = run.memory.between(run.at(f"Step {steps - 100}/"), run.at(f"Step {steps}/"))
    print(f"{early:6.0f} MB around step 200, {late:6.0f} MB around the last of {steps} steps")
    return {f"memory_growth_{steps}_steps_mb": late - early}


def _typical(run: OurRun) -> float:
    """Return the median of the seconds that a token took, over all steps but the first."""
    return statistics.median(1 / step.tokens_per_second for step in run.steps[1:])


if __name__ == "__main__":
    main()

"""How fast a model is tuned, beside TRL, LLaMA-Factory and OPEA's way: `make bench-training`.

All learn from the same rows with LoRA of the same shape on all linear layers, with the same
learning rate and nearly the same batch (packed rows hold as many examples as fit), each in a
process and, for the peers, an environment of its own, in turns. What each has made is then measured
on the same held-out rows, in fp32, by the same plain code. Useful tokens are those of the rows,
without padding; they are counted over all steps but the first. Ours, TRL and LLaMA-Factory compute
in bf16 where the processor multiplies it natively, else in fp32; OPEA's way is fp32.

Ends with one line of JSON:

- `vs_trl`, `vs_llamafactory`, `vs_opea`: our useful tokens per second, against theirs; at least
  3.5, 2 and 7 are wanted.
- `of_limit`: the share of our steps' time that their matrix products would take at the rate that
  this machine multiplies at, measured before and after each run; at least 0.6. Products are those
  of frozen layers, of the head for learnt tokens, of the adapter and of attention.
- `bf16_vs_fp32_loss`: largest difference between the losses of our bf16 and fp32 runs, relative;
  below 0.005. It is left out where all is fp32.
- `memory_vs_llamafactory`: our peak memory against theirs; at most 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from base_models import Cost, products_per_second, smollm2
from held_out import encoded_answer, of_answers
from picture import draw
from rows import Row, answered
from transformers import AutoTokenizer
from trials import Result, Trials, shown

from tunesmith.domain.spec import Precision
from tunesmith.training.adapter import DTYPES
from tunesmith.training.devices import PROCESSOR

LENGTH, RATE, RANK = 1024, 2e-4, 16
HELD_OUT = 32
"""Rows that nothing learns from."""
OURS = "ours"
REFERENCE = "ours fp32"
"""What each of our two runs is called."""


def main() -> dict[str, float]:
    """Run all in turns, print what each was like, and the figures as the last line."""
    arguments = _arguments()
    precision = PROCESSOR.precision(Precision.AUTO)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        bench = Bench(Path(folder), arguments.rows, batch=arguments.batch)
        contenders: dict[str, Callable[[], Result]] = {OURS: partial(bench.ours, precision)}
        if precision is not Precision.FP32:
            contenders[REFERENCE] = partial(bench.ours, Precision.FP32)
        contenders |= {
            "trl": partial(bench.peer, "trl_sft", arguments.trl),
            "llama-factory": partial(bench.peer, "llama_factory", arguments.llamafactory),
            "opea": partial(bench.peer, "hf_trainer", arguments.trl),
        }
        found: dict[str, list[Result]] = {name: [] for name in contenders}
        for _ in range(arguments.rounds):
            for name, run in contenders.items():
                before = products_per_second(DTYPES[precision])
                found[name].append(run())
                if name == OURS:
                    limit = (before + products_per_second(DTYPES[precision])) / 2
                    reached = found[name][-1].tokens_per_second * bench.flops_per_token
                    bench.shares.append(reached / limit)
                print(f"{name:14} {shown(found[name][-1])}", flush=True)
    if arguments.picture:
        curves = {name: results[0].losses for name, results in found.items()}
        title = f"SmolLM2-135M, LoRA of rank {RANK}, {arguments.rows} rows by {arguments.batch}"
        draw(arguments.picture, curves, title=f"{title}, {precision}; {arguments.caption}")
    figures = _figures(found, bench)
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}))
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where models and rows are written")
    parser.add_argument("--rows", type=int, default=96, help="rows that are learnt from")
    parser.add_argument("--batch", type=int, default=16, help="rows of a step, a multiple of 4")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="SVG or PNG of the first round's losses")
    parser.add_argument("--caption", default="", help="machine and date, for the picture")
    parser.add_argument("--trl", type=Path, required=True, help="Python with TRL")
    parser.add_argument("--llamafactory", type=Path, required=True, help="Python with it")
    return parser.parse_args()


class Bench:
    """The model and the rows, and what runs on them."""

    def __init__(self, folder: Path, count: int, *, batch: int) -> None:
        """Prepare the model and `count` rows in `folder`, `batch` of them a step."""
        self._trials = Trials(folder)
        self._model = smollm2(self._trials.data)
        self._batch = batch
        rows = answered(count + HELD_OUT)
        self._learnt, self._held_out = rows[:count], rows[count:]
        tokenizer = AutoTokenizer.from_pretrained(self._model)
        encoded = [
            encoded_answer(tokenizer, row, side="completion", length=LENGTH) for row in self._learnt
        ]
        lengths = [len(ids) for ids, _ in encoded]
        self.tokens = sum(lengths)
        self._rows_per_step = max(round(batch * self.tokens / count / LENGTH), 1)
        learnt = sum(len(ids) - begin for ids, begin in encoded) / self.tokens
        cost = Cost.of(self._model)
        attended = sum(each * cost.attended(each) for each in lengths) / self.tokens
        self.flops_per_token = cost.products(learnt) + cost.adapted(RANK) + attended
        self.shares: list[float] = []
        print(f"{count} rows, {self.tokens} tokens, {self.flops_per_token / 1e6:.0f} MFLOP each")

    def ours(self, precision: Precision) -> Result:
        """Train as a job does."""
        turns: list[Row] = [{"messages": row["prompt"] + row["completion"]} for row in self._learnt]
        run = self._trials.ours(
            self._model,
            turns,
            precision=precision,
            max_length=LENGTH,
            batch_size=self._batch,
            learning_rate=RATE,
        )
        return Result.of_ours(run, run.tokens_per_second, held_out=self._measure(run.output))

    def peer(self, script: str, python: Path) -> Result:
        """Train with the peer `script`, by `python`."""
        run = self._trials.peer(
            script,
            python,
            model=self._model,
            rows=self._learnt,
            batch=self._batch,
            length=LENGTH,
            rate=RATE,
            rank=RANK,
            epochs=1,
            rows_per_step=self._rows_per_step,
        )
        rate = run.per_second(self.tokens)
        return Result.of_peer(run, rate, held_out=self._measure(run.output))

    def _measure(self, adapter: Path) -> float:
        return of_answers(self._model, adapter, rows=self._held_out, length=LENGTH)


def _figures(found: dict[str, list[Result]], bench: Bench) -> dict[str, float]:
    speed = {
        name: statistics.median(result.tokens_per_second for result in results)
        for name, results in found.items()
    }
    memory = {name: max(result.peak_mb for result in results) for name, results in found.items()}
    figures = {
        "tokens_per_second": speed[OURS],
        "vs_trl": speed[OURS] / speed["trl"],
        "vs_llamafactory": speed[OURS] / speed["llama-factory"],
        "vs_opea": speed[OURS] / speed["opea"],
        "of_limit": statistics.median(bench.shares),
        "memory_vs_llamafactory": memory[OURS] / memory["llama-factory"],
    }
    if REFERENCE in found:
        pairs = zip(found[OURS][0].losses, found[REFERENCE][0].losses, strict=True)
        figures["bf16_vs_fp32_loss"] = max(abs(bf16 - fp32) / fp32 for bf16, fp32 in pairs)
    return figures


if __name__ == "__main__":
    main()

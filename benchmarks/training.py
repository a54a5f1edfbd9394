"""How fast a model is tuned, beside TRL, LLaMA-Factory and OPEA's way: `make bench-training`.

All learn from the same rows with LoRA of the same shape on all linear layers, with the same
learning rate and nearly the same batch (packed rows hold as many examples as fit), each in a
process and, for the peers, an environment of its own, in turns. What each has made is then measured
on the same held-out rows, in fp32, by the same plain code. Useful tokens are those of the rows,
without padding; they are counted over all steps but the first.

Ends with one line of JSON:

- `vs_trl`, `vs_llamafactory`, `vs_opea`: our useful tokens per second, against theirs; at least
  3.5, 2 and 7 are wanted.
- `of_limit`: the share of our steps' time that their matrix products would take at the rate that
  this machine multiplies at, measured before and after each run; at least 0.6.
- `bf16_vs_fp32_loss`: largest difference between the losses of our bf16 and fp32 runs, relative;
  below 0.005.
- `memory_vs_llamafactory`: our peak memory against theirs; at most 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.domain.spec import (
    THINK_MARKS,
    DataFile,
    LoraSpec,
    Method,
    Optimizer,
    Policy,
    Precision,
    TrainSpec,
)
from tunesmith.settings import DEFAULT_CATALOGUE
from tunesmith.training.base_model import bring

HERE = Path(__file__).parent
ALPACA = HERE.parents[1] / "shared" / "data" / "alpaca_en_demo.json"
"""Real rows, where they are there; else rows are drawn."""
BATCH, LENGTH, RATE, RANK = 16, 1024, 2e-4, 16
HELD_OUT = 32
"""Rows that nothing learns from."""


@dataclass(frozen=True)
class Result:
    """What a run was like."""

    tokens_per_second: float
    """Useful tokens per second, over all steps but the first."""
    first_step: float
    """Seconds from the start of the process to the end of the first step."""
    peak_mb: float
    """Most memory that the process held."""
    losses: list[float]
    """Training loss of each step, as it says itself."""
    held_out: float
    """Loss on the held-out rows."""


def main() -> dict[str, float]:
    """Run all in turns, print what each was like, and the figures as the last line."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        bench = Bench(Path(folder), arguments.rows)
        contenders: dict[str, Callable[[], Result]] = {
            "ours bf16": partial(bench.ours, Precision.BF16),
            "ours fp32": partial(bench.ours, Precision.FP32),
            "trl": partial(bench.peer, "trl_sft", arguments.trl, packed=True),
            "llama-factory": partial(bench.peer, "llama_factory", arguments.llamafactory),
            "opea": partial(bench.peer, "hf_trainer", arguments.trl),
        }
        found: dict[str, list[Result]] = {name: [] for name in contenders}
        for _ in range(arguments.rounds):
            for name, run in contenders.items():
                before = products_per_second()
                found[name].append(run())
                if name == "ours bf16":
                    limit = (before + products_per_second()) / 2
                    reached = found[name][-1].tokens_per_second * bench.flops_per_token
                    bench.shares.append(reached / limit)
                print(f"{name:14} {_shown(found[name][-1])}", flush=True)
    figures = _figures(found, bench)
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}))
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where models and rows are written")
    parser.add_argument("--rows", type=int, default=96, help="rows that are learnt from")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trl", type=Path, required=True, help="Python with TRL")
    parser.add_argument("--llamafactory", type=Path, required=True, help="Python with it")
    return parser.parse_args()


class Bench:
    """The model and the rows, and what runs on them."""

    def __init__(self, folder: Path, count: int) -> None:
        """Prepare the model and `count` rows in `folder`."""
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

        self._folder = folder
        self._artifacts = LocalArtifacts(folder / "data")
        self._model = bring(DEFAULT_CATALOGUE[0], self._artifacts, announce=print).folder
        self._runs = 0
        rows = _rows(count + HELD_OUT)
        self._learnt, self._held_out = rows[:count], rows[count:]
        tokenizer = AutoTokenizer.from_pretrained(self._model)
        lengths = [len(_encoded(tokenizer, row)[0]) for row in self._learnt]
        self.tokens = sum(lengths)
        self._rows_per_step = max(round(BATCH * statistics.mean(lengths) / LENGTH), 1)
        learnt = sum(len(i) - b for i, b in (_encoded(tokenizer, row) for row in self._learnt))
        model = AutoModelForCausalLM.from_pretrained(self._model)
        head = model.get_output_embeddings().weight.numel()
        linear = sum(
            module.weight.numel()
            for module in model.modules()
            if module.__class__.__name__ == "Linear" and module.weight.numel() != head
        )
        # Forward and back through the frozen layers, and through the head where it is learnt.
        self.flops_per_token: float = 4 * linear + 4 * head * learnt / self.tokens
        self.shares: list[float] = []
        print(f"{count} rows, {self.tokens} tokens, {self.flops_per_token / 1e6:.0f} MFLOP each")

    def ours(self, precision: Precision) -> Result:
        """Train as a job does."""
        self._runs += 1
        run = RunDirectory(self._artifacts, f"ftjob-{self._runs}")
        run.write_spec(self._spec(run, precision))
        run.claim(1)
        command = [sys.executable, "-m", "tunesmith.training", "--attempt", "1"]
        command += ["--artifacts", str(self._folder / "data"), "--job", f"ftjob-{self._runs}"]
        begun = time.time()
        peak = _peak(command, self._folder / "ours.log")
        events = [event for event in run.events(after=0) if event.metrics]
        steps = [event.metrics for event in events if event.metrics]
        # A step's tokens are whole examples, so that each step has a rate of its own.
        rates = [step.tokens_per_second for step in steps[1:]]
        return Result(
            tokens_per_second=statistics.harmonic_mean(rates),
            first_step=events[0].created_at - begun,
            peak_mb=peak,
            losses=[step.train_loss for step in steps],
            held_out=self._measure(self._folder / "data" / run.output),
        )

    def peer(self, script: str, python: Path, *, packed: bool = False) -> Result:
        """Train with the peer `script`, by `python`."""
        self._runs += 1
        output = self._folder / f"peer-{self._runs}"
        rows = self._folder / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in self._learnt), encoding="utf-8")
        task = self._folder / "task.json"
        shape = {"batch": BATCH, "length": LENGTH, "rate": RATE, "rank": RANK, "epochs": 1}
        shape |= {"rows_per_step": self._rows_per_step, "packed": packed}
        paths = {"model": str(self._model), "rows": str(rows), "output": str(output)}
        task.write_text(json.dumps(shape | paths), encoding="utf-8")
        command = [str(python), str(HERE / "peers" / f"{script}.py"), str(task)]
        peak = _peak(command, output.with_suffix(".log"))
        told = json.loads((output / "steps.json").read_text(encoding="utf-8"))
        ends = told["ends"]
        share = (len(ends) - 1) / len(ends)
        return Result(
            tokens_per_second=self.tokens * share / (ends[-1] - ends[0]),
            first_step=ends[0],
            peak_mb=peak,
            losses=told["losses"],
            held_out=self._measure(output),
        )

    def _spec(self, run: RunDirectory, precision: Precision) -> TrainSpec:
        turns = ({"messages": row["prompt"] + row["completion"]} for row in self._learnt)
        content = "".join(json.dumps(row) + "\n" for row in turns).encode()
        self._artifacts.put("files/rows", content)
        return TrainSpec(
            job_id=run.prefix.rpartition("/")[2],
            tuned_model="ft:bench:org::1",
            base_model=CatalogueEntry(name="bench", source=FolderSource(path=self._model)),
            start_from=None,
            method=Method.SUPERVISED,
            beta=None,
            preference=None,
            think=THINK_MARKS,
            ranking=None,
            training_file=DataFile(
                id="file-rows",
                filename="rows.jsonl",
                key="files/rows",
                sha256=hashlib.sha256(content).hexdigest(),
            ),
            validation_file=None,
            held_out_percent=0.0,
            max_examples=None,
            max_length=LENGTH,
            bad_rows=Policy.REFUSE,
            over_length=Policy.CUT,
            seed=1,
            n_epochs=1,
            max_steps=None,
            max_seconds=None,
            batch_size=BATCH,
            learning_rate=RATE,
            schedule="linear",
            warmup_ratio=0.0,
            optimizer=Optimizer.ADAMW,
            weight_decay=0.0,
            max_grad_norm=1.0,
            lora=LoraSpec(rank=RANK, alpha=2.0 * RANK),
            gradient_checkpointing=False,
            precision=precision,
            evaluate_every=10_000,
            early_stopping=None,
            checkpoint_every=10_000,
            keep_checkpoints=1,
            cpus=os.cpu_count() or 1,
            integrations=(),
        )

    def _measure(self, adapter: Path) -> float:
        """Return the loss of the adapter on the held-out rows, token by token, in fp32."""
        import torch  # noqa: PLC0415
        from peft import PeftModel  # noqa: PLC0415
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

        tokenizer = AutoTokenizer.from_pretrained(self._model)
        base = AutoModelForCausalLM.from_pretrained(self._model, dtype=torch.float32)
        model = PeftModel.from_pretrained(base, adapter).eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for row in self._held_out:
                ids, begin = _encoded(tokenizer, row)
                logits = model(torch.tensor([ids])).logits[0, begin - 1 : -1]
                wanted = torch.tensor(ids[begin:])
                total += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
                count += len(wanted)
        return total / count


def _rows(count: int) -> list[dict[str, Any]]:
    """Return rows of a prompt and an answer, in the form that TRL reads."""
    if ALPACA.is_file():
        found = json.loads(ALPACA.read_text(encoding="utf-8"))
        asked = [
            (f"{row['instruction']}\n\n{row['input']}".strip(), row["output"])
            for row in found
            if row["output"]
        ]
    else:
        drawn = random.Random(0)
        words = ("water", "light", "stone", "river", "seven", "green", "quick", "north")
        asked = [
            (" ".join(drawn.choices(words, k=20)), " ".join(drawn.choices(words, k=120)))
            for _ in range(count)
        ]
    return [
        {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": answer}],
        }
        for question, answer in asked[:count]
    ]


def _encoded(tokenizer: Any, row: dict[str, Any]) -> tuple[list[int], int]:
    """Return the ids of a row, and where its answer begins."""
    begin = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (begin, whole)]
    return ids[1][:LENGTH], len(ids[0])


def _peak(command: list[str], log: Path) -> float:
    """Run `command` to its end and return the most memory that it held, in MB."""
    peak = 0.0
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while child.poll() is None:
            try:
                peak = max(peak, psutil.Process(child.pid).memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.2)
    if child.wait():
        raise SystemExit(f"{command} ended with {child.returncode}:\n{log.read_text()[-3000:]}")
    return peak


def products_per_second() -> float:
    """Return the floating-point operations per second of a bf16 product of the model's shape."""
    import torch  # noqa: PLC0415

    left, right = torch.randn(1024, 576).bfloat16(), torch.randn(576, 1536).bfloat16()
    best = 0.0
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(50):
            left @ right
        best = max(best, 50 * 2 * 1024 * 576 * 1536 / (time.perf_counter() - begun))
    return best


def _figures(found: dict[str, list[Result]], bench: Bench) -> dict[str, float]:
    speed = {
        name: statistics.median(result.tokens_per_second for result in results)
        for name, results in found.items()
    }
    memory = {name: max(result.peak_mb for result in results) for name, results in found.items()}
    ours = speed["ours bf16"]
    pairs = zip(found["ours bf16"][0].losses, found["ours fp32"][0].losses, strict=True)
    return {
        "tokens_per_second": ours,
        "vs_trl": ours / speed["trl"],
        "vs_llamafactory": ours / speed["llama-factory"],
        "vs_opea": ours / speed["opea"],
        "of_limit": statistics.median(bench.shares),
        "bf16_vs_fp32_loss": max(abs(bf16 - fp32) / fp32 for bf16, fp32 in pairs),
        "memory_vs_llamafactory": memory["ours bf16"] / memory["llama-factory"],
    }


def _shown(result: Result) -> str:
    return (
        f"{result.tokens_per_second:6.0f} tokens/s  first step {result.first_step:5.1f} s  "
        f"{result.peak_mb:6.0f} MB  loss {result.losses[0]:.4f} to {result.losses[-1]:.4f}, "
        f"held out {result.held_out:.4f}"
    )


if __name__ == "__main__":
    main()

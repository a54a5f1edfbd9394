"""How fast pairs, texts and questions are learnt from, beside their peers: `make bench-objectives`.

- Pairs of answers (DPO): TRL's DPOTrainer. LoRA on all linear layers of SmolLM2-135M-Instruct.
  Both measure the model before it learns, ours once at the beginning and TRL in each step: so all
  is counted, from the first of these passes to the last step.
- Plain texts (continued pretraining): transformers' Trainer, its texts put one behind the other and
  cut into rows of one length. The same adapter. Counted over all steps but the first.
- Questions with their answers (embedding): sentence-transformers' trainer with
  MultipleNegativesRankingLoss. All weights of all-MiniLM-L6-v2. Counted likewise.

Rows, learning rate and precision are the same on both sides (bf16 where the processor multiplies it
natively, else fp32), and so is the batch; of texts nearly so, since the peer's rows are no texts.
Each run is a process, in turns, and each peer has an environment of its own. What each has made is
then measured on the same held-out rows, in fp32, by the same plain code. Useful tokens are those of
the rows, without padding.

Ends with one line of JSON:

- `vs_trl_dpo`, `vs_hf_pretraining`, `vs_sentence_transformers`: our useful tokens per second (for
  the last, questions per second), against theirs; at least 2 is wanted of each.
- `memory_vs_trl_dpo`, `memory_vs_hf_pretraining`, `memory_vs_sentence_transformers`: our peak
  memory against theirs; at most 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import held_out
import rows
from base_models import minilm, smollm2
from transformers import AutoTokenizer
from trials import Result, Trials, shown

from tunesmith.domain.preferences import PREFERENCE_BETA, Sigmoid
from tunesmith.domain.spec import Method, RankingSpec

HELD_OUT = 8
"""Pairs, and texts, that nothing learns from."""
QUESTIONS_HELD_OUT = 64
"""Questions that nothing learns from: each is asked for its answer among those of all."""


class Contest(NamedTuple):
    """One of ours and its peer on the same rows."""

    peer: str
    """What the figures call the peer."""
    ours: Callable[[], Result]
    """Runs ours."""
    theirs: Callable[[], Result]
    """Runs the peer."""


def main() -> dict[str, float]:
    """Run all in turns, print what each was like, and the figures as the last line."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        trials = Trials(Path(folder))
        model = smollm2(trials.data)
        contests = {
            "dpo": _pairs(trials, model, arguments=arguments),
            "pretraining": _texts(trials, model, arguments=arguments),
            "embedding": _questions(trials, minilm(), arguments=arguments),
        }
        figures: dict[str, float] = {}
        for objective in arguments.only or contests:
            figures |= _held(objective, contests[objective], rounds=arguments.rounds)
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}))
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where models and rows are written")
    parser.add_argument("--pairs", type=int, default=24, help="pairs that are learnt from")
    parser.add_argument("--texts", type=int, default=24, help="texts that are learnt from")
    parser.add_argument("--questions", type=int, default=512, help="questions, likewise")
    parser.add_argument("--rounds", type=int, default=2)
    objectives = ("dpo", "pretraining", "embedding")
    parser.add_argument("--only", nargs="+", choices=objectives, help="these objectives alone")
    parser.add_argument("--trl", type=Path, required=True, help="Python with TRL")
    parser.add_argument("--sentence-transformers", type=Path, required=True, help="Python with it")
    return parser.parse_args()


def _held(objective: str, contest: Contest, *, rounds: int) -> dict[str, float]:
    """Return the figures of `contest`, held so many times."""
    ours: list[Result] = []
    theirs: list[Result] = []
    for _ in range(rounds):
        for name, run, found in (
            ("ours", contest.ours, ours),
            (contest.peer, contest.theirs, theirs),
        ):
            found.append(run())
            print(f"{objective:12} {name:22} {shown(found[-1])}", flush=True)
    speeds = [statistics.median(one.tokens_per_second for one in side) for side in (ours, theirs)]
    peaks = [max(one.peak_mb for one in side) for side in (ours, theirs)]
    return {
        f"vs_{contest.peer}": speeds[0] / speeds[1],
        f"memory_vs_{contest.peer}": peaks[0] / peaks[1],
    }


def _pairs(trials: Trials, model: Path, *, arguments: argparse.Namespace) -> Contest:
    length, batch, rate, count = 1024, 4, 1e-4, arguments.pairs
    found = rows.pairs(count + HELD_OUT)
    learnt, kept = found[:count], found[count:]
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = sum(
        len(held_out.encoded_answer(tokenizer, row, side=side, length=length)[0])
        for row in learnt
        for side in ("chosen", "rejected")
    )

    def measured(adapter: Path) -> float:
        return held_out.of_pairs(model, adapter, rows=kept, length=length, beta=PREFERENCE_BETA)

    def ours() -> Result:
        given: list[rows.Row] = [
            {
                "input": {"messages": row["prompt"]},
                "preferred_output": row["chosen"],
                "non_preferred_output": row["rejected"],
            }
            for row in learnt
        ]
        changes = {"method": Method.DPO, "preference": Sigmoid(), "beta": PREFERENCE_BETA}
        run = trials.ours(
            model, given, **changes, max_length=length, batch_size=batch, learning_rate=rate
        )
        last = run.steps[-1]
        seconds = run.at(f"Step {last.step}/") - run.at("Measuring the model on")
        return Result.of_ours(run, tokens / seconds, held_out=measured(run.output))

    def theirs() -> Result:
        asked = _task(batch, length=length, rate=rate) | {"beta": PREFERENCE_BETA, "at_once": 1}
        run = trials.peer("trl_dpo", arguments.trl, model=model, rows=learnt, **asked)
        speed = tokens / (run.ends[-1] - run.begun)
        return Result.of_peer(run, speed, held_out=measured(run.output))

    return Contest("trl_dpo", ours, theirs)


def _texts(trials: Trials, model: Path, *, arguments: argparse.Namespace) -> Contest:
    length, batch, rate, count = 1024, 8, 2e-4, arguments.texts
    found = rows.texts(count + HELD_OUT)
    learnt, kept = found[:count], found[count:]
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = sum(len(held_out.encoded_text(tokenizer, row["text"], length=None)) for row in learnt)
    rows_per_step = max(round(batch * tokens / count / length), 1)

    def measured(adapter: Path) -> float:
        return held_out.of_texts(model, adapter, rows=kept, length=length)

    def ours() -> Result:
        changes = {"method": Method.PRETRAINING, "max_length": length}
        run = trials.ours(model, learnt, **changes, batch_size=batch, learning_rate=rate)
        return Result.of_ours(run, run.tokens_per_second, held_out=measured(run.output))

    def theirs() -> Result:
        asked = _task(batch, length=length, rate=rate) | {"rows_per_step": rows_per_step}
        run = trials.peer("hf_texts", arguments.trl, model=model, rows=learnt, **asked)
        speed = run.per_second(tokens // length * length)
        return Result.of_peer(run, speed, held_out=measured(run.output))

    return Contest("hf_pretraining", ours, theirs)


def _questions(trials: Trials, model: Path, *, arguments: argparse.Namespace) -> Contest:
    length, batch, rate, count = 128, 32, 2e-5, arguments.questions
    ranking = RankingSpec(
        group_size=1,
        query_max_len=length,
        passage_max_len=length,
        temperature=0.05,
        pooling="mean",
    )
    found = rows.questions(count + QUESTIONS_HELD_OUT)
    learnt, kept = found[:count], found[count:]
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = sum(
        len(tokenizer(row[side], truncation=True, max_length=length)["input_ids"])
        for row in learnt
        for side in ("query", "answer")
    )

    def measured(folder: Path) -> float:
        return held_out.of_questions(folder, kept, length=length, temperature=ranking.temperature)

    def ours() -> Result:
        given: list[rows.Row] = [
            {"query": row["query"], "pos": [row["answer"]], "neg": []} for row in learnt
        ]
        changes = {"method": Method.EMBEDDING, "ranking": ranking, "lora": None}
        run = trials.ours(model, given, **changes, batch_size=batch, learning_rate=rate)
        return Result.of_ours(run, run.tokens_per_second, held_out=measured(run.output))

    def theirs() -> Result:
        asked = _task(batch, length=length, rate=rate) | {"temperature": ranking.temperature}
        run = trials.peer(
            "sentence_pairs", arguments.sentence_transformers, model=model, rows=learnt, **asked
        )
        return Result.of_peer(run, run.per_second(tokens), held_out=measured(run.output))

    return Contest("sentence_transformers", ours, theirs)


def _task(batch: int, *, length: int, rate: float) -> dict[str, Any]:
    return {"batch": batch, "length": length, "rate": rate, "rank": 16, "epochs": 1}


if __name__ == "__main__":
    main()

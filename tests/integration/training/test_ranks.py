"""Each method learns the same in two processes as in one, and one's fault is the fault of both."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from integration.training.ranks import BROKEN, FULL_DISK, NARROW, RESUMED, take_part
from models.tiny import save_tiny_bert, save_tiny_llama
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.preferences import Kto, Sigmoid
from tunesmith.domain.spec import EarlyStopping, LoraSpec, Method
from tunesmith.training.checkpoints import STATE
from unit.training.conftest import JOB, Bench, rows
from unit.training.ranking import asked, ranking_rows
from unit.training.test_preferences import changes, pair_rows

TOLERANCE = 5e-6
"""By how much a loss may differ, of about 0.5 to 6: what the order of sums in fp32 makes."""

USUAL: dict[str, Any] = {
    "n_epochs": 4,
    "batch_size": 5,
    "evaluate_every": 3,
    "checkpoint_every": 3,
}

PLAIN = LoraSpec(rank=4, alpha=8)
"""An adapter without dropout, whose masks would be others in another division."""

LONE = "full, one example a step"
"""In the run of this name, one rank has nothing to learn from."""

PAST_ITS_BEST = "full, past its best"
"""In the run of this name, the best checkpoint, which is not the last, is the result."""

WHOLE = ("full", LONE, RESUMED, PAST_ITS_BEST)
"""Runs that train all weights."""

SUPERVISED = ("supervised", *WHOLE, FULL_DISK, NARROW, BROKEN)


@dataclass(frozen=True)
class Pair:
    """The same run on one worker and on two."""

    one: Bench
    two: Bench


def new_bench(root: Path, base: Path) -> Bench:
    artifacts = LocalArtifacts(root)
    return Bench(artifacts, RunDirectory(artifacts, JOB), root, base)


def write(bench: Bench, name: str, *, bert: Path) -> None:
    """Freeze the spec of the run `name` in `bench`."""
    if name in SUPERVISED:
        lora = None if name in (*WHOLE, FULL_DISK) else PLAIN
        held_out = bench.upload("valid", rows(5))
        usual = USUAL | ({"batch_size": 1, "n_epochs": 1} if name == LONE else {})
        if name == PAST_ITS_BEST:
            other = [{"instruction": f"Say {n}", "output": "zzz"} for n in range(5)]
            held_out = bench.upload("valid", other)
            usual = usual | {"early_stopping": EarlyStopping(patience=99), "evaluate_every": 1}
        bench.write_spec(rows(18), lora=lora, validation_file=held_out, **usual)
    elif name in ("dpo", "full dpo", "kto"):
        loss = Kto(desirable_weight=1.5) if name == "kto" else Sigmoid()
        fields = changes(loss) | ({"lora": None} if name == "full dpo" else {})
        held_out = bench.upload("valid", pair_rows(3))
        bench.write_spec(pair_rows(12), validation_file=held_out, **fields, **USUAL)
    else:
        fields = asked(bert, Method(name), lora=PLAIN)
        held_out = bench.upload("valid", ranking_rows(5))
        bench.write_spec(ranking_rows(12), validation_file=held_out, **fields, **USUAL)
    bench.upload_text("empty", "")


NAMES = [*SUPERVISED, "dpo", "full dpo", "kto", "embedding", "rerank"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Each run, trained both ways."""
    root = tmp_path_factory.mktemp("ranks")
    llama, bert = root / "llama", root / "bert"
    save_tiny_llama(llama)
    save_tiny_bert(bert)
    found = {
        name: Pair(new_bench(root / "one" / name, llama), new_bench(root / "two" / name, llama))
        for name in NAMES
    }
    for name, pair in found.items():
        write(pair.one, name, bert=bert)
        write(pair.two, name, bert=bert)
    found[RESUMED].two.train_until(b"Step 5/")
    folders = [pair.two.root for pair in found.values()]
    spawn = multiprocessing.get_context("spawn")
    ranks = [
        spawn.Process(target=take_part, args=(rank, 2, folders, root / "meeting"))
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    for pair in found.values():
        pair.one.train()
    for rank in ranks:
        rank.join(timeout=200)
        assert rank.exitcode == 0
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (BROKEN, FULL_DISK)])
def test_two_ranks_learn_what_one_does(pairs: dict[str, Pair], name: str) -> None:
    one, two = pairs[name].one.metrics(), pairs[name].two.metrics()

    assert [each.step for each in two] == [each.step for each in one]
    assert len(one) >= 8
    for alone, shared in zip(one, two, strict=True):
        assert shared.train_loss == pytest.approx(alone.train_loss, abs=TOLERANCE)
        assert shared.valid_loss == pytest.approx(alone.valid_loss, abs=TOLERANCE)
        assert shared.mrr == pytest.approx(alone.mrr)
        assert shared.rewards_margin == pytest.approx(alone.rewards_margin, abs=TOLERANCE)
    assert one[-1].train_loss != pytest.approx(one[0].train_loss, abs=100 * TOLERANCE)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (BROKEN, FULL_DISK)])
def test_two_ranks_come_to_the_verdict_of_one(pairs: dict[str, Pair], name: str) -> None:
    one, two = pairs[name].one.run.verdict(), pairs[name].two.run.verdict()

    assert (two.outcome, two.held_out) == (one.outcome, one.held_out)
    assert two.result_step == one.result_step
    assert [each.name for each in two.measures] == [each.name for each in one.measures]
    for found, expected in zip(two.measures, one.measures, strict=True):
        for side in ("baseline", "tuned", "difference"):
            wanted = getattr(expected, side).model_dump()
            assert getattr(found, side).model_dump() == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    for text, alone in zip(two.general, one.general, strict=True):
        assert text.text == alone.text
        assert text.baseline_loss == pytest.approx(alone.baseline_loss, rel=1e-4)
        assert text.tuned_loss == pytest.approx(alone.tuned_loss, rel=1e-3)


def test_a_divided_model_is_judged_at_its_best_step(pairs: dict[str, Pair]) -> None:
    for bench in (pairs[PAST_ITS_BEST].one, pairs[PAST_ITS_BEST].two):
        verdict, metrics = bench.run.verdict(), bench.metrics()
        assert verdict.result_step < metrics[-1].step
        told = next(one for one in metrics if one.step == verdict.result_step)
        assert verdict.loss.tuned.value == pytest.approx(told.valid_loss)


@pytest.mark.parametrize("name", WHOLE)
def test_a_divided_model_is_kept_as_a_whole_one_is(pairs: dict[str, Pair], name: str) -> None:
    one, two = pairs[name].one, pairs[name].two
    steps = one.run.checkpoint_steps()
    assert two.run.checkpoint_steps() == steps

    for folder in (one.run.output, *map(one.run.checkpoint, steps)):
        kept, divided = (load_file(each.root / folder / "model.safetensors") for each in (one, two))
        assert kept.keys() == divided.keys()
        for weight, value in kept.items():
            torch.testing.assert_close(divided[weight], value, rtol=0, atol=1e-4)
    for step in steps:
        kept, divided = (
            torch.load(each.root / each.run.checkpoint(step) / STATE) for each in (one, two)
        )
        torch.testing.assert_close(divided["optimizer"], kept["optimizer"], rtol=0, atol=1e-4)
    assert (one.output / "config.json").read_bytes() == (two.output / "config.json").read_bytes()


def test_a_checkpoint_without_room_ends_all_workers_of_a_divided_model(
    pairs: dict[str, Pair],
) -> None:
    outcome = pairs[FULL_DISK].two.run.events(after=0)[-1].outcome

    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code is FailureCode.DISK_FULL


def test_two_workers_go_on_where_one_ended(pairs: dict[str, Pair]) -> None:
    assert "Resumed from the checkpoint at step 3 of 16" in pairs[RESUMED].two.messages()


@pytest.mark.parametrize("name", ["supervised", "dpo"])
def test_the_run_directory_is_that_of_one_writer(pairs: dict[str, Pair], name: str) -> None:
    one, two = pairs[name].one, pairs[name].two

    for prefix in ("runs", "output"):
        assert two.artifacts.list(prefix) == one.artifacts.list(prefix)
    assert len(two.messages()) == len(one.messages())
    assert two.messages()[0] == (
        "Training started (attempt 1) on 2 workers with 1 threads in fp32: "
        "rank 0 of node-0, rank 1 of node-1"
    )


def test_what_one_rank_has_no_memory_for_is_cut_smaller_by_all(pairs: dict[str, Pair]) -> None:
    (told, *_) = [text for text in pairs[NARROW].two.messages() if "did not fit" in text]

    assert told.startswith("A micro-batch of step 1 did not fit into memory")
    assert not [text for text in pairs[NARROW].one.messages() if "did not fit" in text]


def test_the_fault_of_a_rank_that_does_not_write_is_the_outcome(pairs: dict[str, Pair]) -> None:
    outcome = pairs[BROKEN].two.run.events(after=0)[-1].outcome

    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code is FailureCode.INVALID_TRAINING_FILE
    assert "is not what was uploaded" in outcome.error.message

"""A device with a memory of its own learns what the processor learns.

It is a stand-in for Gaudi: `tests/gaudi` has the packages that Habana's bridge has, with kernels
that let the processor compute, and refuse what a device would refuse.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from integration.training.gaudi import SEEN, plug_in, take_part, train_alone
from models.tiny import save_tiny_bert, save_tiny_llama
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.devices import Device
from tunesmith.domain.preferences import Sigmoid
from tunesmith.domain.spec import LoraSpec, Method, Precision
from unit.training.conftest import JOB, Bench, rows
from unit.training.ranking import asked, ranking_rows
from unit.training.test_preferences import changes, pair_rows

pytestmark = pytest.mark.skipif(
    shutil.which("c++") is None or shutil.which("ninja") is None,
    reason="the stand-in for Gaudi is compiled, for which there is no C++ compiler or no ninja",
)

PLAIN = LoraSpec(rank=4, alpha=8)
TOLERANCE = {Precision.FP32: 2e-5, Precision.BF16: 0.02}
"""By how much a loss may differ: what another order of sums makes, and what rounding makes."""

USUAL: dict[str, Any] = {"n_epochs": 2, "batch_size": 4, "evaluate_every": 3, "checkpoint_every": 3}

OTHER = "supervised, other texts"
"""A run with as many texts, of other lengths."""

ALONE = ("supervised", OTHER, "bf16", "full", "dpo", "embedding", "rerank")
"""Runs of one worker."""

SHARED = ("supervised, shared", "full, shared")
"""Runs of two workers."""


@dataclass(frozen=True)
class Pair:
    """The same run on the processor and on the device."""

    cpu: Bench
    device: Bench


def write(bench: Bench, name: str, *, bert: Path, device: Device) -> None:
    """Freeze the spec of the run `name` in `bench`."""
    kind = name.partition(",")[0]
    usual = USUAL | {"device": device}
    if kind in ("supervised", "bf16", "full"):
        precision = Precision.BF16 if kind == "bf16" else Precision.FP32
        held_out = bench.upload("valid", rows(5))
        usual |= {"lora": None if kind == "full" else PLAIN, "precision": precision}
        bench.write_spec(rows(36)[18 * (name == OTHER) :][:18], validation_file=held_out, **usual)
    elif kind == "dpo":
        held_out = bench.upload("valid", pair_rows(3))
        bench.write_spec(pair_rows(8), validation_file=held_out, **changes(Sigmoid()), **usual)
    else:
        held_out = bench.upload("valid", ranking_rows(5))
        fields = asked(bert, Method(kind), lora=PLAIN)
        bench.write_spec(ranking_rows(8), validation_file=held_out, **fields, **usual)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Each run, trained on both."""
    root = tmp_path_factory.mktemp("devices")
    llama, bert = root / "llama", root / "bert"
    save_tiny_llama(llama)
    save_tiny_bert(bert)

    def bench(kind: str, name: str) -> Bench:
        artifacts = LocalArtifacts(root / kind / name)
        return Bench(artifacts, RunDirectory(artifacts, JOB), root / kind / name, llama)

    found = {name: Pair(bench("cpu", name), bench("hpu", name)) for name in (*ALONE, *SHARED)}
    for name, pair in found.items():
        write(pair.cpu, name, bert=bert, device=Device.CPU)
        write(pair.device, name, bert=bert, device=Device.HPU)
    run_aside([(plug_in, ())])
    shared = [found[name].device.root for name in SHARED]
    run_aside(
        [
            (train_alone, ([found[name].device.root for name in ALONE],)),
            *((take_part, (rank, shared, root / "meeting")) for rank in range(2)),
        ]
    )
    for pair in found.values():
        pair.cpu.train()
    return found


def seen(bench: Bench) -> dict[str, Any]:
    """What the device was asked for in the run of `bench`."""
    found: dict[str, Any] = json.loads((bench.root / SEEN).read_text())
    return found


def run_aside(calls: Sequence[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    """Make all `calls` at the same time, in processes of their own; torch here stays as it is."""
    spawn = multiprocessing.get_context("spawn")
    started = [spawn.Process(target=target, args=given) for target, given in calls]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=250)
        assert process.exitcode == 0


@pytest.mark.parametrize("name", [*ALONE, *SHARED])
def test_the_device_learns_what_the_processor_does(pairs: dict[str, Pair], name: str) -> None:
    cpu, device = pairs[name].cpu, pairs[name].device
    tolerance = TOLERANCE[device.run.read_spec().precision]

    assert device.run.events(after=0)[-1].outcome == cpu.run.events(after=0)[-1].outcome
    assert len(device.metrics()) == len(cpu.metrics()) >= 4
    for theirs, ours in zip(cpu.metrics(), device.metrics(), strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=tolerance)
        assert ours.valid_loss == pytest.approx(theirs.valid_loss, abs=tolerance)
    assert abs(device.metrics()[-1].train_loss - device.metrics()[0].train_loss) > 2 * tolerance


@pytest.mark.parametrize("name", [*ALONE, *SHARED])
def test_the_result_is_loaded_without_the_device(pairs: dict[str, Pair], name: str) -> None:
    cpu, device = pairs[name].cpu, pairs[name].device
    (file,) = cpu.output.glob("*.safetensors")

    theirs, ours = load_file(file), load_file(device.output / file.name)

    assert ours.keys() == theirs.keys()
    assert all(weight.device.type == "cpu" for weight in ours.values())
    assert all(ours[weight].shape == theirs[weight].shape for weight in theirs)


def test_the_run_says_what_it_is_trained_on(pairs: dict[str, Pair]) -> None:
    assert any(
        "on hpu:0 (stand-in) and 1 threads" in said for said in pairs["bf16"].device.messages()
    )


def test_each_step_is_marked(pairs: dict[str, Pair]) -> None:
    device = pairs["supervised"].device

    # One for the gradient of each micro-batch, of which a step has one here, and one for the step.
    assert seen(device)["marked"] == 2 * len(device.metrics())


def test_other_texts_have_the_same_shapes(pairs: dict[str, Pair]) -> None:
    some, other = (pairs[name].device for name in ("supervised", OTHER))

    assert some.metrics()[0].train_loss != other.metrics()[0].train_loss
    assert seen(other)["shapes"] == seen(some)["shapes"]

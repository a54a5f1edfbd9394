"""Without an adapter all weights are trained, kept and handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.domain.failures import FailureCode
from tunesmith.domain.preferences import Sigmoid
from tunesmith.domain.spec import Method, Precision
from tunesmith.training import checkpoints
from unit.training.test_dpo import pair_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.artifacts.runs import RunDirectory
    from tunesmith.training.checkpoints import Snapshot
    from unit.training.conftest import Bench, Rows

FULL: dict[str, Any] = {"lora": None, "learning_rate": 1e-3}
RESULT = "model.safetensors"


def weights(bench: Bench) -> dict[str, torch.Tensor]:
    return load_file(bench.output / RESULT)


def test_the_tuned_model_loads_as_any_causal_model_and_gives_the_logits_of_training(
    bench: Bench, rows: Callable[[int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    prompt, save = torch.tensor([[5, 80, 33, 61, 7]]), checkpoints.save

    def look_and_save(run: RunDirectory, taken: Snapshot) -> None:
        with torch.no_grad():
            seen.append(taken.learner.model.eval()(prompt).logits)
        save(run, taken)

    monkeypatch.setattr(checkpoints, "save", look_and_save)
    bench.write_spec(rows(12), n_epochs=4, **FULL)

    assert bench.train().error is None

    metrics = bench.metrics()
    assert metrics[-1].train_loss < metrics[0].train_loss - 0.2
    tuned = AutoModelForCausalLM.from_pretrained(bench.output)
    with torch.no_grad():
        assert torch.equal(tuned(prompt).logits, seen[-1])
    assert AutoTokenizer.from_pretrained(bench.output).chat_template is not None
    assert not (bench.output / "adapter_config.json").exists()
    assert (bench.output / RESULT).stat().st_mode & 0o044 == 0o044
    assert bench.artifacts.exists(f"{bench.run.published_checkpoint(12)}/{RESULT}")
    base = load_file(bench.base / RESULT)
    assert all(not torch.equal(weight, base[name]) for name, weight in weights(bench).items())


@pytest.mark.parametrize("moment", [b"Step 2/", b"Checkpoint saved at step 3", b"Step 5/"])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_a_killed_run_ends_with_the_same_bytes(
    new_bench: Callable[[str], Bench],
    rows: Callable[[int], Rows],
    moment: bytes,
    precision: Precision,
) -> None:
    changes = FULL | {"checkpoint_every": 3, "n_epochs": 2, "precision": precision}
    whole, killed = new_bench("whole"), new_bench("killed")
    whole.write_spec(rows(12), **changes)
    undisturbed = whole.train()
    killed.write_spec(rows(12), **changes)
    killed.train_until(moment)

    assert killed.train(attempt=2) == undisturbed

    assert (killed.output / RESULT).read_bytes() == (whole.output / RESULT).read_bytes()


def test_in_bf16_the_weights_stay_in_fp32_and_only_products_are_rounded(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    """A step of 1e-6 is lost where weights have the 8 bits of bf16."""
    found: dict[Precision, tuple[float, dict[str, torch.Tensor]]] = {}
    for precision in (Precision.BF16, Precision.FP32):
        bench = new_bench(precision)
        bench.write_spec(
            rows(8),
            precision=precision,
            lora=None,
            learning_rate=1e-6,
            weight_decay=0.0,
            n_epochs=1,
        )
        assert bench.train().error is None
        found[precision] = bench.metrics()[0].train_loss, weights(bench)

    rounded, exact = found[Precision.BF16], found[Precision.FP32]
    base = load_file(bench.base / RESULT)
    for name, weight in rounded[1].items():
        assert weight.dtype == torch.float32
        moved = (weight - base[name]).abs()
        assert 0 < moved.max() < 1e-5, name
        assert (weight.bfloat16() == base[name].bfloat16()).float().mean() > 0.9, name
    assert rounded[0] != exact[0]
    assert rounded[0] == pytest.approx(exact[0], rel=0.01)


def test_preferences_may_move_all_weights(bench: Bench) -> None:
    fields = FULL | {"method": Method.DPO, "beta": 0.3, "preference": Sigmoid()}
    bench.write_spec(pair_rows(12), n_epochs=4, **fields)

    assert bench.train().error is None

    assert bench.metrics()[-1].train_loss < bench.metrics()[0].train_loss - 0.1


def test_an_adapter_cannot_be_tuned_on_by_all_weights(
    bench: Bench, rows: Callable[[int], Rows]
) -> None:
    bench.write_spec(rows(8), start_from="output/ftjob-0", **FULL)

    error = bench.train().error

    assert error is not None
    assert error.code is FailureCode.MODEL_UNAVAILABLE


def test_gradient_checkpointing_changes_nothing(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    results = []
    for wanted in (False, True):
        bench = new_bench(str(wanted))
        bench.write_spec(rows(8), gradient_checkpointing=wanted, n_epochs=1, **FULL)
        assert bench.train().error is None
        results.append(weights(bench))

    for name, weight in results[0].items():
        assert torch.allclose(weight, results[1][name], atol=1e-5), name

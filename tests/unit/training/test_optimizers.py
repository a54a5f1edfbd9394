"""What turns gradients into changes of the weights, and what memory it takes for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.domain.spec import Optimizer
from tunesmith.training.checkpoints import STATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench, Rows

ADAFACTOR: dict[str, Any] = {"optimizer": Optimizer.ADAFACTOR}
FULL: dict[str, Any] = {"lora": None, "learning_rate": 1e-3}


@pytest.mark.parametrize("trained", [{}, FULL], ids=["adapter", "full"])
def test_adafactor_learns(
    bench: Bench, rows: Callable[[int], Rows], trained: dict[str, Any]
) -> None:
    bench.write_spec(rows(12), n_epochs=5, **ADAFACTOR, **trained)

    assert bench.train().error is None

    losses = [one.train_loss for one in bench.metrics()]
    assert losses[-1] < losses[0] - 0.1


def test_adafactor_keeps_a_small_part_of_adamws_numbers_in_full_training(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    kept = {}
    for optimizer in Optimizer:
        bench = new_bench(optimizer)
        bench.write_spec(rows(4), n_epochs=1, optimizer=optimizer, **FULL)
        bench.train()
        folder = bench.artifacts.fetch_folder(bench.run.checkpoint(1))
        state = torch.load(folder / STATE, weights_only=True)["optimizer"]["state"]
        kept[optimizer] = sum(
            value.numel()
            for numbers in state.values()
            for value in numbers.values()
            if isinstance(value, torch.Tensor)
        )

    assert kept[Optimizer.ADAFACTOR] < kept[Optimizer.ADAMW] / 10


def test_weight_decay_makes_weights_smaller_with_adafactor_too(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows]
) -> None:
    sizes = []
    for decay in (0.0, 10.0):
        bench = new_bench(str(decay))
        bench.write_spec(rows(12), weight_decay=decay, **ADAFACTOR)
        bench.train()
        weights = load_file(bench.output / "adapter_model.safetensors").values()
        sizes.append(sum(float(weight.square().sum()) for weight in weights))

    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize("trained", [{}, FULL], ids=["adapter", "full"])
def test_a_killed_run_with_adafactor_ends_with_the_same_losses_and_bytes(
    new_bench: Callable[[str], Bench], rows: Callable[[int], Rows], trained: dict[str, Any]
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    for bench in (whole, killed):
        bench.write_spec(rows(12), n_epochs=3, checkpoint_every=1, **ADAFACTOR, **trained)
    whole.train()

    killed.train_until(b"Step 6/")
    assert killed.train(attempt=2).error is None

    assert [one.train_loss for one in killed.metrics()] == [
        one.train_loss for one in whole.metrics()
    ]
    name = "adapter_model.safetensors" if not trained else "model.safetensors"
    assert killed.artifacts.get(f"{killed.run.output}/{name}") == whole.artifacts.get(
        f"{whole.run.output}/{name}"
    )

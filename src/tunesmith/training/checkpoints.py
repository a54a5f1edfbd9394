"""Saves and restores what a run has reached, so that it goes on as if never interrupted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.events import StepMetrics

STATE = "training_state.pt"
"""The one file of a checkpoint that is not handed out."""

ADAPTER = "adapter_model.safetensors"
"""The adapter's weights, in the format that `peft` saves."""


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done."""
    trained_tokens: int = 0
    """Tokens that went through training so far, padding not counted."""
    metrics: StepMetrics | None = None
    """The numbers of the last step, not evaluated yet; `None` before the first."""


@dataclass(frozen=True)
class Learner:
    """What learns: all that a checkpoint is made of."""

    model: PeftModel
    """The frozen model with its adapter."""
    tokenizer: PreTrainedTokenizerBase
    """The model's tokenizer."""
    optimizer: torch.optim.Optimizer
    """The optimizer of the adapter's weights."""
    progress: Progress
    """How far it has come."""


def save(run: RunDirectory, learner: Learner) -> None:
    """Keep the state of `learner` as the checkpoint at its step, whole or not at all.

    Generators need no place in it: dropout and data order are functions of seed and step.
    """
    progress = learner.progress
    with run.scratch() as aside:
        folder = aside / "checkpoint"
        learner.model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        # safetensors makes files for their owner alone; this one is handed out.
        (folder / ADAPTER).chmod(0o644)
        learner.tokenizer.save_pretrained(folder)
        state = {
            "optimizer": learner.optimizer.state_dict(),
            "step": progress.step,
            "trained_tokens": progress.trained_tokens,
            "metrics": progress.metrics.model_dump() if progress.metrics else None,
        }
        # Through a file of Python's, whose error says why there is no room; torch's own does not.
        with (folder / STATE).open("wb") as file:
            torch.save(state, file)
        run.save_checkpoint(progress.step, folder)


def restore_newest(run: RunDirectory, artifacts: Artifacts, *, learner: Learner) -> None:
    """Bring `learner` to the newest checkpoint of `run`; nothing happens where there is none."""
    steps = run.checkpoint_steps()
    if not steps:
        return
    folder = artifacts.fetch_folder(run.checkpoint(steps[-1]))
    set_peft_model_state_dict(learner.model, load_file(folder / ADAPTER))
    state = torch.load(folder / STATE, weights_only=True)
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.progress.step = state["step"]
    learner.progress.trained_tokens = state["trained_tokens"]
    learner.progress.metrics = StepMetrics.model_validate(state["metrics"])


def publish(run: RunDirectory, artifacts: Artifacts, *, step: int, target: str) -> None:
    """Hand out adapter and tokenizer of the checkpoint at `step` under the prefix `target`."""
    prefix = f"{run.checkpoint(step)}/"
    names = (key.removeprefix(prefix) for key in artifacts.list(run.checkpoint(step)))
    run.publish(step, target, names=(name for name in names if name != STATE))


def drop_old(run: RunDirectory, *, keep: int) -> None:
    """Forget all checkpoints but the `keep` newest."""
    for step in run.checkpoint_steps()[:-keep]:
        run.drop_checkpoint(step)

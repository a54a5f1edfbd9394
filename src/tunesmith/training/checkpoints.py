"""Saves and restores what a run has reached, so that it goes on as if never interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import ArtifactMissingError
from tunesmith.domain.events import StepMetrics
from tunesmith.domain.failures import FailureCode
from tunesmith.training.early_stopping import Standing
from tunesmith.training.failures import RunFailedError
from tunesmith.training.group import in_step
from tunesmith.training.network import Network
from tunesmith.training.sharding import divide, divide_weights, put_together

STATE = "training_state.pt"
"""The one file of a checkpoint that is not handed out."""

ADAPTER = "adapter_model.safetensors"
"""The adapter's weights, in the format that `peft` saves."""


_SMALL = 0.1
"""The share of a model's weights that is copied, threefold with AdamW, while a run goes on."""


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done."""
    trained_tokens: int = 0
    """Tokens that went through training so far, padding not counted."""
    seconds: float = 0.0
    """Time up to the last step's end, in all attempts."""
    metrics: StepMetrics | None = None
    """The numbers of the last step, not evaluated yet; `None` before the first."""
    standing: Standing = field(default_factory=Standing)
    """What the evaluations so far amount to."""


@dataclass(frozen=True)
class Learner:
    """What learns: all that a checkpoint is made of."""

    network: Network
    """The model, with its adapter or all of its weights trained, as objectives see it."""
    tokenizer: PreTrainedTokenizerBase
    """The model's tokenizer."""
    optimizer: torch.optim.Optimizer
    """The optimizer of the weights that are trained."""
    progress: Progress
    """How far it has come."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further texts of the result, by their paths in its folder."""

    @property
    def model(self) -> PeftModel | PreTrainedModel:
        """The model itself."""
        return self.network.model


@dataclass(frozen=True)
class Snapshot:
    """A learner as it was after one step."""

    learner: Learner
    """What it was made of."""
    step: int
    """Optimizer steps done by then."""
    best: int
    """The step with the best evaluation by then; 0 where none is sought."""
    weights: Mapping[str, torch.Tensor] | None
    """Copies of the trained weights; `None` where they are still to be read from the learner."""
    state: Mapping[str, Any]
    """Optimizer and progress, for `STATE`."""

    @property
    def apart(self) -> bool:
        """Whether the learner may take its next steps before this is saved."""
        return self.weights is not None


def snapshot(learner: Learner, *, keep: bool = True) -> Snapshot:
    """Return `learner` as it is now, copied where the copy is small beside the model.

    A model that is divided among workers is put together, for which all of them call this; what
    those get that do not `keep` it, cannot be saved.
    Generators need no place in it: dropout and data order are functions of seed and step.
    """
    progress = learner.progress
    state: dict[str, Any] = {
        "optimizer": learner.optimizer.state_dict(),
        "step": progress.step,
        "trained_tokens": progress.trained_tokens,
        "seconds": progress.seconds,
        "metrics": progress.metrics.model_dump() if progress.metrics else None,
        "standing": progress.standing.model_dump(),
    }
    weights = None
    if learner.network.in_step:
        with in_step():
            state = put_together(state, keep=keep)
            # Weights that are used in two places are one weight here, and so stay one.
            weights = put_together(learner.model.state_dict(keep_vars=True), keep=keep)
    elif _is_small(learner.model):
        state = put_together(state)
        weights = {
            name: weight.detach().to("cpu", copy=True)
            for name, weight in learner.model.named_parameters(remove_duplicate=False)
            if weight.requires_grad
        }
    return Snapshot(learner, progress.step, progress.standing.best_step, weights, state)


def _is_small(model: PeftModel | PreTrainedModel) -> bool:
    """Whether a copy of what is trained, with its optimizer, takes little beside the model."""
    weights: list[torch.nn.Parameter] = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    return trained <= _SMALL * sum(weight.numel() for weight in weights)


def save(run: RunDirectory, taken: Snapshot) -> None:
    """Keep `taken` as the checkpoint at its step, whole or not at all."""
    learner = taken.learner
    with run.scratch() as aside:
        folder = aside / "checkpoint"
        _save_weights(learner.model, folder, weights=taken.weights)
        learner.tokenizer.save_pretrained(folder)
        for name, text in learner.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        # Through a file of Python's, whose error says why there is no room; torch's own does not.
        with (folder / STATE).open("wb") as file:
            torch.save(taken.state, file)
        run.save_checkpoint(taken.step, folder)


def _save_weights(
    model: PeftModel | PreTrainedModel, folder: Path, *, weights: Mapping[str, torch.Tensor] | None
) -> None:
    """Save the adapter of `model`, or all of it, with its config; with `weights` for its own."""
    state = None if weights is None else dict(weights)
    if isinstance(model, PeftModel):
        model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
    else:
        model.save_pretrained(folder, state_dict=state)
    # safetensors makes files for their owner alone; these are handed out.
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def restore_weights(
    run: RunDirectory, artifacts: Artifacts, *, model: PeftModel | PreTrainedModel, step: int
) -> None:
    """Give `model` the weights of the checkpoint of `run` at `step`."""
    folder = artifacts.fetch_folder(run.checkpoint(step))
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(folder / ADAPTER))
        return
    # Some weights have other names in files than in the model; transformers knows which.
    saved = type(model).from_pretrained(folder, dtype=torch.float32)
    model.load_state_dict(divide_weights(saved.state_dict(), model))


def restore(run: RunDirectory, artifacts: Artifacts, *, learner: Learner, step: int) -> None:
    """Bring `learner`, which has the weights already, to the checkpoint of `run` at `step`."""
    folder = artifacts.fetch_folder(run.checkpoint(step))
    # Not read into memory before it is used: of a divided model, each worker uses its part.
    state = torch.load(folder / STATE, weights_only=True, mmap=True, map_location="cpu")
    learner.optimizer.load_state_dict(divide(state["optimizer"], learner.optimizer))
    learner.progress.step = state["step"]
    learner.progress.trained_tokens = state["trained_tokens"]
    learner.progress.seconds = state["seconds"]
    learner.progress.metrics = StepMetrics.model_validate(state["metrics"])
    learner.progress.standing = Standing.model_validate(state["standing"])


def start_from(prefix: str, artifacts: Artifacts, *, model: PeftModel | PreTrainedModel) -> None:
    """Give `model` the weights of the adapter that `artifacts` holds under `prefix`.

    Raises `RunFailedError` with the code `model_unavailable` if it is gone or of another shape.
    """
    if not isinstance(model, PeftModel):
        raise _no_start("has no place in a model all of whose weights are trained.")
    try:
        weights = load_file(artifacts.fetch_folder(prefix) / ADAPTER)
    except (ArtifactMissingError, FileNotFoundError):
        raise _no_start("is no longer there: it was deleted. Choose another one.") from None
    except SafetensorError as error:
        raise _no_start(f"cannot be read ({error}). Choose another one.") from error
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    if _shapes(weights) != _shapes(wanted):
        raise _no_start(
            "has other modules or another rank than this job's adapter, or another base model. "
            "Leave the adapter's shape out of the request."
        )
    set_peft_model_state_dict(model, weights)


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _no_start(why: str) -> RunFailedError:
    return RunFailedError(
        FailureCode.MODEL_UNAVAILABLE, f"The adapter that is tuned on {why}", param="model"
    )


def publish(run: RunDirectory, artifacts: Artifacts, *, step: int, target: str) -> None:
    """Hand out adapter and tokenizer of the checkpoint at `step` under the prefix `target`."""
    prefix = f"{run.checkpoint(step)}/"
    names = (key.removeprefix(prefix) for key in artifacts.list(run.checkpoint(step)))
    run.publish(step, target, names=(name for name in names if name != STATE))


def drop_old(run: RunDirectory, *, keep: int, best: int) -> None:
    """Forget all checkpoints but the `keep` newest and the one at step `best`."""
    for step in run.checkpoint_steps()[:-keep]:
        if step != best:
            run.drop_checkpoint(step)

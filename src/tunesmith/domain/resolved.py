"""What the values that a request leaves open were closed to, as clients are shown them."""

from __future__ import annotations

from tunesmith.domain.values import Value


class ResolvedHyperparameters(Value):
    """What the three hyperparameters that clients see really are."""

    examples: int
    """Examples in the training file."""
    n_epochs: int
    """How often each example is seen."""
    batch_size: int
    """Examples behind one optimizer step."""
    learning_rate_multiplier: float
    """Factor on the base learning rate."""
    learning_rate: float
    """The highest learning rate of the schedule."""
    beta: float | None = None
    """Pairs alone, with a loss that has a reference: how closely the model is held to it."""


class ResolvedTuning(Value):
    """What else a request left open, as the spec has it; known once the job is launched."""

    max_length: int
    """Tokens of the longest example."""
    warmup_ratio: float
    """Share of the steps over which the learning rate rises from 0."""
    max_grad_norm: float
    """Gradients are scaled down to this norm."""
    evaluate_every: int
    """Evaluate on the held-out examples every this many steps, and at the end."""
    checkpoint_every: int
    """Save a checkpoint every this many steps, and at the end."""
    keep_checkpoints: int
    """How many of a run's newest checkpoints are kept."""
    cpus: int
    """Processors granted to each worker."""
    workers: int = 1
    """Processes that train together in the newest attempt."""

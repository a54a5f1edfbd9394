"""The rules that close the hyperparameters which clients see, and count the steps that they make.

| value | rule |
|---|---|
| `n_epochs` | 1,500 examples' worth of passes: `1500 / examples`, rounded up, 1 to 10; of texts 1 |
| `batch_size` | one thirty-second of the examples, 4 to 16 |
| `learning_rate` | `usual_learning_rate` times the multiplier, which is 1 |
| `max_length` | 1,024 tokens; training takes the model's own context where that is shorter |
| `beta` | `PREFERENCE_BETA`, for the losses of pairs that have a reference |
"""

from __future__ import annotations

import math

from tunesmith.domain.preferences import PREFERENCE_BETA, Preference, Referenced, Sigmoid
from tunesmith.domain.resolved import ResolvedHyperparameters
from tunesmith.domain.spec import JobRequest, Method

BASE_LEARNING_RATES = {
    Method.SUPERVISED: 5e-4,
    Method.DPO: 5e-5,
    Method.REASONING: 5e-4,
    Method.PRETRAINING: 2e-4,
    Method.EMBEDDING: 2e-4,
    Method.RERANK: 2e-4,
}
"""Learning rates at `learning_rate_multiplier` 1, for adapters trained by AdamW.

Pairs take a tenth of the supervised rate, whatever their loss: it moves the model away from both
answers where steps are large. All weights of models of 7 billion are tuned by DPO at 5e-7
(Tunstall et al. 2023, arXiv:2310.16944); an adapter bears ten times that, and a model of our size
as much again. Reasoning is learnt as conversations are. Texts teach with each of their tokens, not
with answers alone, and what the model knew already is to stay: pretraining takes less, between
both. Embedding and rerank take ten times the rate at which all weights of such encoders are tuned,
which is 2e-5 (Wang et al. 2022, arXiv:2212.03533; Nogueira and Cho 2019, arXiv:1901.04085, have
3e-6 for a larger one).
"""
FULL_SHARE = 0.1
"""Factor on these rates where all weights are trained: adapters bear ten times as much (Biderman et
al. 2024, arXiv:2405.09673)."""
MAX_LENGTH = 1024
"""Tokens of the longest example, unless the request says otherwise."""


def resolve_hyperparameters(request: JobRequest, *, examples: int) -> ResolvedHyperparameters:
    """Close the hyperparameters that clients see, from the number of `examples` to learn from."""
    usual = usual_learning_rate(request)
    multiplier = request.learning_rate_multiplier
    rate = request.learning_rate
    if rate is None:
        multiplier = multiplier if multiplier is not None else 1.0
        rate = usual * multiplier
    return ResolvedHyperparameters(
        examples=examples,
        n_epochs=request.n_epochs or _epochs(request.method, examples),
        batch_size=request.batch_size or min(16, max(4, examples // 32)),
        learning_rate=rate,
        learning_rate_multiplier=multiplier or rate / usual,
        beta=(request.beta or PREFERENCE_BETA) if has_reference(request) else None,
    )


def resolve_preference(request: JobRequest) -> Preference | None:
    """Return the loss of the pairs that `request` tunes on; `None` where it tunes on none."""
    return (request.preference or Sigmoid()) if request.method is Method.DPO else None


def has_reference(request: JobRequest) -> bool:
    """Tell whether the loss of `request` holds the model to where it began, by `beta`."""
    return isinstance(resolve_preference(request), Referenced)


def _epochs(method: Method, examples: int) -> int:
    # A few long texts are many examples, whose number is known to the run alone.
    if method is Method.PRETRAINING:
        return 1
    return min(10, max(1, math.ceil(1500 / examples)))


def usual_learning_rate(request: JobRequest) -> float:
    """Return the learning rate of `request` at multiplier 1: a smaller one for all weights."""
    usual = BASE_LEARNING_RATES[request.method]
    return usual if request.lora is not None else usual * FULL_SHARE


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Return the optimizer steps of one pass over `examples`; the last batch may be smaller."""
    return -(-examples // batch_size)


def optimizer_steps(resolved: ResolvedHyperparameters, *, max_steps: int | None) -> int:
    """Return the optimizer steps of a whole run, which ends at `max_steps` at the latest."""
    steps = steps_per_epoch(resolved.examples, resolved.batch_size) * resolved.n_epochs
    return min(steps, max_steps or steps)

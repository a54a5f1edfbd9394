"""Chooses the next token of a text."""

from __future__ import annotations

from collections import Counter

import torch

from tunesmith.domain.answers import Chosen, Likely, Sampling


class Sampler:
    """Chooses one token after another of one text."""

    def __init__(self, wanted: Sampling) -> None:
        """Choose as `wanted` says. The same seed makes the same choices of the same logits."""
        self._wanted = wanted
        self._drawn = torch.Generator()
        if wanted.seed is None:
            self._drawn.seed()
        else:
            self._drawn.manual_seed(wanted.seed)
        self._said: Counter[int] = Counter()

    def choose(self, logits: torch.Tensor) -> Chosen:
        """Return the token that comes where the model has these `logits`, (vocabulary,), fp32.

        Log-probabilities are the model's own, before anything changes them.
        """
        wanted = self._wanted
        changed = self._changed(logits)
        if wanted.temperature == 0:
            token = int(changed.argmax())
        else:
            likelihood = torch.softmax(changed / wanted.temperature, dim=-1)
            if wanted.top_p < 1:
                likelihood = _nucleus(likelihood, wanted.top_p)
            token = int(torch.multinomial(likelihood, 1, generator=self._drawn))
        self._said[token] += 1
        if wanted.logprobs is None:
            return Chosen(token=token)
        logprobs = torch.log_softmax(logits, dim=-1)
        best, ids = logprobs.topk(wanted.logprobs)
        return Chosen(
            token=token,
            logprob=float(logprobs[token]),
            likeliest=tuple(
                Likely(token=at, logprob=value)
                for at, value in zip(ids.tolist(), best.tolist(), strict=True)
            ),
        )

    def _changed(self, logits: torch.Tensor) -> torch.Tensor:
        wanted = self._wanted
        penalised = bool(wanted.frequency_penalty or wanted.presence_penalty) and self._said
        if not (wanted.logit_bias or penalised):
            return logits
        changed = logits.clone()
        for token, bias in wanted.logit_bias.items():
            changed[token] += bias
        for token, times in self._said.items() if penalised else ():
            changed[token] -= wanted.frequency_penalty * times + wanted.presence_penalty
        return changed


def _nucleus(likelihood: torch.Tensor, share: float) -> torch.Tensor:
    """Return `likelihood` of the fewest tokens that have this `share`; of all others none."""
    ordered, ids = likelihood.sort(descending=True)
    beyond = ordered.cumsum(0) - ordered >= share
    return likelihood.index_fill(0, ids[beyond], 0.0)

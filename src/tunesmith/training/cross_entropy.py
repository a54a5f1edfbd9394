"""The loss of tokens from the states that predict them, without all their logits in memory.

Some tokens are taken at a time. What the gradient needs of the logits is worked out with the loss,
so that they are made once: the loss of each token depends on its own state alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

_AT_ONCE = 256
"""Tokens whose logits are made together; fewer, and the head's product would be slower."""
_LOGITS = 2**24
"""Logits that are in memory together, where that is fewer: 100 MB in both precisions."""


@dataclass(eq=False)
class Head:
    """The frozen layer that makes logits of states."""

    weight: torch.Tensor
    """(vocabulary, width), in the precision of the products."""
    bias: torch.Tensor | None
    """(vocabulary,), fp32; `None` for none."""

    def __post_init__(self) -> None:
        """Make room for the logits of some tokens, once: fresh memory takes as long as all else."""
        words = len(self.weight)
        self.at_once = min(_AT_ONCE, max(_LOGITS // words, 1))
        """Tokens whose logits are made together."""
        self._made = self.weight.new_empty(self.at_once, words)
        self._kept = torch.empty(self.at_once, words)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits of `states`, (tokens, width): (tokens, vocabulary), fp32."""
        return torch.cat([self.some(part).clone() for part in torch.split(states, self.at_once)])

    def some(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits of at most `at_once` tokens; they hold until the next call."""
        kept = self._kept[: len(states)]
        torch.mm(states.to(self.weight.dtype), self.weight.t(), out=self._made[: len(states)])
        kept.copy_(self._made[: len(states)])
        return kept if self.bias is None else kept.add_(self.bias)

    def back(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of states from that of their logits, in place of these, fp32."""
        made = self._made[: len(gradient)]
        return (made.copy_(gradient) @ self.weight).float()


def token_losses(
    states: torch.Tensor, head: Head, *, wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of each token, in nats, and whether it was the first choice.

    `states`, (tokens, width), fp32, predict the tokens `wanted`, (tokens,), through `head`.
    Returns (tokens,) in fp32, with its gradient, and (tokens,) bool.
    """
    losses, foreseen = _TokenLosses.apply(states, head, wanted)  # type: ignore[no-untyped-call]
    return losses, foreseen


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        states, head, wanted = given
        losses = states.new_empty(len(states))
        foreseen = torch.empty(len(states), dtype=torch.bool)
        learning = ctx.needs_input_grad[0]
        gradient = torch.empty_like(states) if learning else states.new_empty(0)
        for begin in range(0, len(states), head.at_once):
            some = slice(begin, begin + head.at_once)
            right = wanted[some, None]
            logits = head.some(states[some])
            highest, choice = logits.max(dim=1, keepdim=True)
            foreseen[some] = (choice == right).squeeze(1)
            scored = logits.gather(1, right)
            chances = logits.sub_(highest).exp_()
            total = chances.sum(dim=1, keepdim=True)
            losses[some] = (total.log() + highest - scored).squeeze(1)
            if learning:
                chances.div_(total)
                chances.scatter_add_(1, right, torch.full_like(total, -1.0))
                gradient[some] = head.back(chances)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(foreseen)
        return losses, foreseen

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0].unsqueeze(1), None, None

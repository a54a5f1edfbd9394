"""The loss of tokens from the states that predict them, without all their logits in memory.

Some tokens are taken at a time. What the gradient needs of the logits is worked out with the loss,
so that they are made once: the loss of each token depends on its own state alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

_AT_ONCE = 256
"""Tokens whose logits are in memory together; fewer, and the head's product would be slower."""


@dataclass(frozen=True, eq=False)
class Head:
    """The frozen layer that makes logits of states."""

    weight: torch.Tensor
    """(vocabulary, width), in the precision of the products."""
    bias: torch.Tensor | None
    """(vocabulary,), fp32; `None` for none."""

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits of `states`, (tokens, width): (tokens, vocabulary), fp32."""
        logits = (states.to(self.weight.dtype) @ self.weight.t()).float()
        return logits if self.bias is None else logits.add_(self.bias)


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
        for begin in range(0, len(states), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            right = wanted[some, None]
            logits = head.logits(states[some])
            highest, choice = logits.max(dim=1, keepdim=True)
            foreseen[some] = (choice == right).squeeze(1)
            scored = logits.gather(1, right)
            chances = logits.sub_(highest).exp_()
            total = chances.sum(dim=1, keepdim=True)
            losses[some] = (total.log() + highest - scored).squeeze(1)
            if learning:
                chances.div_(total)
                chances.scatter_add_(1, right, torch.full_like(total, -1.0))
                gradient[some] = (chances.to(head.weight.dtype) @ head.weight).float()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(foreseen)
        return losses, foreseen

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0].unsqueeze(1), None, None

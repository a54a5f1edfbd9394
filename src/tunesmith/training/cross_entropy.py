"""The loss of tokens from the states that predict them, without all their logits in memory.

Some tokens are taken at a time. Where the head is frozen, what the gradient needs of the logits is
worked out with the loss, so that they are made once: the loss of each token depends on its own
state alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tunesmith.training.kernels import kernels
from tunesmith.training.pieces import CACHED, Pieces


class Head:
    """The layer that makes logits of states, frozen or trained."""

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        *,
        dtype: torch.dtype,
        pieces: Pieces = CACHED,
    ) -> None:
        """Multiply by `weight`, (vocabulary, width), in `dtype`; what is trained is fp32.

        Room for the logits of some tokens is made once: fresh memory takes as long as all else.
        """
        self._whole = weight
        self.trained = tuple(
            each for each in (weight, bias) if each is not None and each.requires_grad
        )
        """The weight and the bias, if there is one, where the layer is trained; else none."""
        self.weight = weight.data.to(dtype)
        """(vocabulary, width), in the precision of the products."""
        self.bias = None if bias is None else bias.data.float()
        """(vocabulary,), fp32; `None` for none."""
        words = len(self.weight)
        self.at_once = min(pieces.tokens, max(pieces.logits // words, 1))
        """Tokens whose logits are made together."""
        self._few = min(self.at_once, max(pieces.in_fp32 // words, 1))
        self._made = self.weight.new_empty(self.at_once, words)
        self._kept = self.weight.new_empty(self._few, words, dtype=torch.float32)

    def take_over(self) -> None:
        """Round the weight anew, which the optimizer may have changed since."""
        if self.trained and self.weight.dtype != self._whole.dtype:
            self.weight.copy_(self._whole.detach())

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits of `states`, (tokens, width): (tokens, vocabulary), fp32."""
        self.take_over()
        return torch.cat(
            [
                self.complete(made[few]).clone()
                for made in map(self.make, torch.split(states, self.at_once))
                for few in self.few(len(made))
            ]
        )

    def make(self, states: torch.Tensor) -> torch.Tensor:
        """Return what `states`, of at most `at_once` tokens, are multiplied to, without the bias.

        It is (tokens, vocabulary), of the products' precision, and holds until the next call.
        """
        made = self._made[: len(states)]
        return torch.mm(states.to(self.weight.dtype), self.weight.t(), out=made)

    def few(self, tokens: int) -> Iterator[slice]:
        """Yield slices of so many tokens, those whose logits are in fp32 together."""
        for begin in range(0, tokens, self._few):
            yield slice(begin, min(begin + self._few, tokens))

    def complete(self, made: torch.Tensor) -> torch.Tensor:
        """Return the logits of a few tokens that `make` has made; they hold until the next call."""
        kept = self._kept[: len(made)].copy_(made)
        return kept if self.bias is None else kept.add_(self.bias)

    def back(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of states from that of their logits, fp32.

        The latter has taken the place of what `make` has made.
        """
        return (gradient @ self.weight).float()


def token_losses(
    states: torch.Tensor, head: Head, *, wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of each token, in nats, and whether it was the first choice.

    `states`, (tokens, width), fp32, predict the tokens `wanted`, (tokens,), through `head`.
    Returns (tokens,) in fp32, with its gradient, and (tokens,) bool.
    """
    kind = _TrainedHead if head.trained else _FrozenHead
    head.take_over()
    losses, foreseen = kind.apply(states, head, wanted, *head.trained)  # type: ignore[no-untyped-call]
    return losses, foreseen


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        states, head, wanted = given
        losses, foreseen = _room(states)
        learning = ctx.needs_input_grad[0]
        gradient = torch.empty_like(states) if learning else states.new_empty(0)
        for some in _parts(states, head):
            made = head.make(states[some])
            measured = _measured_by(head, made, wanted=wanted[some], learning=learning)
            losses[some], foreseen[some] = measured
            if learning:
                gradient[some] = head.back(made)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(foreseen)
        return losses, foreseen

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0].unsqueeze(1), None, None


def _measured_by(
    head: Head, made: torch.Tensor, *, wanted: torch.Tensor, learning: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and what was foreseen by the logits that `head` has `made` of some tokens.

    With `learning`, their gradient takes the place of the logits.
    """
    fast = kernels(made.dtype, made.device)
    if fast is not None:
        return fast.losses(made, wanted, bias=head.bias, learning=learning)
    losses, foreseen = _room(wanted)
    for few in head.few(len(made)):
        right = wanted[few, None]
        losses[few], foreseen[few], shares = _measured(head.complete(made[few]), right)
        if learning:
            made[few] = _slopes(shares, right)
    return losses, foreseen


class _TrainedHead(torch.autograd.Function):
    """The head's own gradient hangs on that of each loss, so that logits are made again for it."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        states, head, wanted, *_ = given
        losses, foreseen = _room(states)
        for some in _parts(states, head):
            made, right = head.make(states[some]), wanted[some, None]
            for few in head.few(len(made)):
                measured = _measured(head.complete(made[few]), right[few])
                losses[some][few], foreseen[some][few], _ = measured
        ctx.save_for_backward(states, wanted)
        ctx.head = head
        ctx.mark_non_differentiable(foreseen)
        return losses, foreseen

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        states, wanted = ctx.saved_tensors
        head: Head = ctx.head
        gradient = torch.empty_like(states)
        weight, *bias = (torch.zeros_like(trained) for trained in head.trained)
        for some in _parts(states, head):
            made, right, slope = (
                head.make(states[some]),
                wanted[some, None],
                gradients[0][some, None],
            )
            for few in head.few(len(made)):
                _, _, shares = _measured(head.complete(made[few]), right[few])
                slopes = _slopes(shares, right[few]).mul_(slope[few])
                made[few] = slopes
                for sums in bias:
                    sums.add_(slopes.sum(dim=0))
            gradient[some] = head.back(made)
            weight += made.t() @ states[some].to(made.dtype)
        return gradient, None, None, weight, *bias


def _room(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kinds = torch.float32, torch.bool
    losses, foreseen = (tokens.new_empty(len(tokens), dtype=kind) for kind in kinds)
    return losses, foreseen


def _parts(states: torch.Tensor, head: Head) -> Iterator[slice]:
    for begin in range(0, len(states), head.at_once):
        yield slice(begin, begin + head.at_once)


def _measured(
    logits: torch.Tensor, right: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Return losses, what was foreseen, and the share of each word with the sum of all shares.

    The shares take the place of the logits.
    """
    highest, choice = logits.max(dim=1, keepdim=True)
    scored = logits.gather(1, right)
    shares = logits.sub_(highest).exp_()
    total = shares.sum(dim=1, keepdim=True)
    losses = (total.log() + highest - scored).squeeze(1)
    return losses, (choice == right).squeeze(1), (shares, total)


def _slopes(summed: tuple[torch.Tensor, torch.Tensor], right: torch.Tensor) -> torch.Tensor:
    """Return the gradient of each loss with respect to its logits, in place of their shares."""
    shares, total = summed
    return shares.div_(total).scatter_add_(1, right, torch.full_like(total, -1.0))

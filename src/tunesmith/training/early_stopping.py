"""Which evaluation was the best, and when to give up waiting for a better one."""

from __future__ import annotations

import math

from tunesmith.domain.spec import EarlyStopping, TrainSpec
from tunesmith.domain.values import Value


class Standing(Value):
    """What the evaluations so far amount to; part of each checkpoint, so that all attempts agree.

    The checkpoint with the lowest loss is handed out. Patience is another matter: it
    begins anew only where a loss falls by more than `EarlyStopping.min_delta`.
    """

    best_step: int = 0
    """Step of the lowest held-out loss, the first of equals; 0 before the first evaluation."""
    best_loss: float = math.inf
    """That loss, in nats."""
    mark: float = math.inf
    """The loss that is to be undercut, in nats."""
    in_vain: int = 0
    """Evaluations in a row that did not undercut it."""
    judged_step: int = 0
    """The last step whose evaluation is in here."""

    def after(self, step: int, loss: float, *, rule: EarlyStopping) -> Standing:
        """Return the standing after the evaluation at `step` found `loss`."""
        better, fell = loss < self.best_loss, loss < self.mark - rule.min_delta
        return Standing(
            best_step=step if better else self.best_step,
            best_loss=loss if better else self.best_loss,
            mark=loss if fell else self.mark,
            in_vain=0 if fell else self.in_vain + 1,
            judged_step=step,
        )

    def ends(self, spec: TrainSpec) -> bool:
        """Tell whether `spec` would have the run end here."""
        return spec.early_stopping is not None and self.in_vain >= spec.early_stopping.patience

    def verdict(self, step: int, *, total: int, spec: TrainSpec) -> str:
        """Return the sentence on why a run with early stopping ended at `step` of `total`."""
        best = f"the validation loss was lowest at step {self.best_step} ({self.best_loss:.4f})"
        handed_out = "the checkpoint of that step is the result"
        if not self.ends(spec):
            return f"Ran to step {step} of {total}: {best}, and {handed_out}"
        return (
            f"Stopped early at step {step} of {total}: {best} and did not fall anew in "
            f"{self.in_vain} evaluations; {handed_out}"
        )

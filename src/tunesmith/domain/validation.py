"""What is asked of the check of a training file, and what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.hyperparameters import MAX_LENGTH
from tunesmith.domain.shown_rows import AskedRow
from tunesmith.domain.spec import THINK_MARKS, Method, Policy, RankingSpec, ThinkMarks
from tunesmith.domain.values import Value

MINIMUM_EXAMPLES = 10
"""Fewest examples of a training file, as OpenAI has it."""

_SUMMARIZED = 3


class ValidationOptions(Value):
    """What a file is checked for."""

    method: Method | None = None
    """The method that it is for; `None` takes the files of any method."""
    model: str | None = None
    """The model whose tokenizer counts tokens; `None` counts none."""
    max_length: Annotated[int, Field(ge=8)] = MAX_LENGTH
    """Tokens of the longest example; the model's own context where that is shorter."""
    ranking: RankingSpec = RankingSpec()
    """How a job would learn from queries and passages, with their lengths."""
    think: ThinkMarks = THINK_MARKS
    """What would begin and end a thought, for models with no marks of their own."""
    over_length: Literal[Policy.CUT, Policy.REFUSE, Policy.SET_ASIDE] = Policy.CUT
    """What a job would do with examples of more tokens."""
    bad_rows: Literal[Policy.REFUSE, Policy.SET_ASIDE] = Policy.REFUSE
    """What a job would do with rows that break a rule."""
    bad_rows_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """With `set_aside`: the largest share of the rows that may be."""
    n_epochs: Annotated[int, Field(ge=1, le=50)] | None = None
    """How often a job would see each example; `None` means "auto"."""
    batch_size: Annotated[int, Field(ge=1, le=256)] | None = None
    """Examples behind one optimizer step; `None` means "auto"."""
    minimum: Annotated[int, Field(ge=1)] = MINIMUM_EXAMPLES
    """Fewest examples that the file must hold."""


class Finding(Value):
    """One thing that was found in a file."""

    line: int
    """Line on which the row begins, from 1; 0 where the file as a whole is meant."""
    element: int
    """Number of the row in its array or table, from 1; 0 where the file has lines alone."""
    pointer: str
    """Place inside the row, as a JSON pointer (RFC 6901); empty for the row itself."""
    rule: str
    """Stable id of the rule; see `docs/reference/dataset-rules.md`."""
    message: str
    """The place, what was found, what is expected and the mend."""
    severity: Literal["error", "warn"]
    """`error` where a job would be refused for it, or set the row aside."""


class HistogramBar(Value):
    """How many examples have a length within bounds."""

    upto: int
    """Most tokens of these examples; the bar before tells the fewest."""
    examples: int
    """How many they are."""


class TokenReport(Value):
    """How many tokens a model's tokenizer makes of the examples, chat template included."""

    model: str
    """The model whose tokenizer and template were used."""
    max_length: int
    """Tokens of the longest example, beyond which it is cut, refused or set aside."""
    total: int
    """Tokens of all examples that are trained on, once, after cutting."""
    learnt: int
    """Those of them that the loss is taken on."""
    mean: float
    """Tokens of the average example, before cutting."""
    percentiles: dict[str, int]
    """Tokens that p1, p5, … p99 per cent of the examples do not exceed, and `max`."""
    histogram: tuple[HistogramBar, ...]
    """Lengths before cutting, in bars that double; ascending, without empty ends."""
    cut: int
    """Examples of which some answer, or a part of it, lies beyond the longest length."""
    set_aside: int
    """Examples that would not be trained on."""


class StepEstimate(Value):
    """The run that a job with these options would make of the file."""

    n_epochs: int
    """How often each example is seen."""
    batch_size: int
    """Examples behind one optimizer step."""
    steps: int
    """Optimizer steps."""
    trained_tokens: int | None
    """Tokens of all epochs; `None` where tokens were not counted."""


class ValidationReport(Value):
    """What was found in a file."""

    ok: bool
    """Whether a job with these options would take the file."""
    format: str | None
    """Format of the examples; `None` where no row was of a known one."""
    examples: int
    """Examples that can be learnt from."""
    bad_rows: int
    """Rows that break a rule: reasons to refuse the file, or set aside."""
    findings: tuple[Finding, ...]
    """The first of each rule, in the file's order."""
    counts: dict[str, int]
    """How often each rule was broken, by the rule's id."""
    error_count: int
    """Number of findings that are errors, listed or not."""
    truncated: bool
    """Whether more was found than is listed."""
    tokens: TokenReport | None
    """Token statistics, where a model was named."""
    estimate: StepEstimate | None
    """The run that a job would make of it; `None` where there is nothing to learn."""

    @property
    def refusal(self) -> str:
        """Why a job would refuse the file: how many errors there are, and the first three."""
        errors = [finding for finding in self.findings if finding.severity == "error"]
        whole = [finding for finding in errors if not finding.line]
        texts = [finding.message for finding in (whole or errors)[:_SUMMARIZED]]
        if self.error_count > 1:
            texts.insert(0, f"{self.error_count} problems were found.")
        if self.error_count > _SUMMARIZED:
            texts.append(f"(And {self.error_count - _SUMMARIZED} more.)")
        return " ".join(texts)


class FileTask(Value):
    """What a process of its own is to do with open files that it inherits."""

    file: int
    """Descriptor of the file, at its beginning."""
    held_out: int | None = None
    """Descriptor of the validation file that it is compared with."""
    tokenizer: Path | None = None
    """Folder of the tokenizer that makes tokens; `None` counts none."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that inspect a long file."""
    options: ValidationOptions = ValidationOptions()
    """What the file is checked for."""
    repaired: int | None = None
    """Descriptor of an empty file for a repaired copy, which is made instead of a check."""
    diff: int | None = None
    """Descriptor of an empty file for the copy's unified diff."""
    row: AskedRow | None = None
    """The row that is shown as `tokenizer` makes tokens of it, instead of a check."""

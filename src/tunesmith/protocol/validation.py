"""The check of a file: an extension of ours to OpenAI's files."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from tunesmith.domain.spec import Method, Policy, ThinkMark
from tunesmith.domain.validation import ValidationOptions, ValidationReport
from tunesmith.protocol.methods import AnyMethod
from tunesmith.protocol.ranking import RankingRequest
from tunesmith.protocol.tuning import Length
from tunesmith.protocol.wire import Wire


class ValidateFile(Wire):
    """What a file is to be checked for; everything may be left out."""

    model: Annotated[str, Field(min_length=1)] | None = None
    """A base model, tuned model or checkpoint whose tokenizer counts tokens; null counts none."""
    method: AnyMethod | None = None
    """The method, or our objective, that the file is for; null takes the files of any."""
    validation_file: str | None = None
    """Id of the validation file that goes with it; what both have is reported.
    Its own faults are not: check it by itself (of it, a job takes even a single example)."""
    max_length: Length | None = None
    """Tokens of the longest example; null means what a job would take."""
    ranking: RankingRequest | None = None
    """How a job would learn from queries and passages; null means its defaults."""
    think: Annotated[list[ThinkMark], Field(min_length=2, max_length=2)] | None = None
    """What would begin and end a thought, for models with no marks of their own; null means
    `<think>` and `</think>`."""
    over_length: Literal["cut", "refuse", "set_aside"] = "cut"
    """What a job would do with longer examples."""
    bad_rows: Literal["refuse", "set_aside"] = "refuse"
    """What a job would do with rows that break a rule."""
    bad_rows_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """With `bad_rows: set_aside`: the largest share of the rows that may be."""
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Literal["auto"] | None = None
    """How often a job would see each example."""
    batch_size: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] | None = None
    """Examples behind one optimizer step."""

    def to_options(self) -> ValidationOptions:
        """Return what is asked for, with what is left open closed."""
        plain = ValidationOptions(model=self.model)
        return plain.model_copy(
            update={
                "method": Method(self.method) if self.method else None,
                "max_length": self.max_length or plain.max_length,
                "ranking": self.ranking.to_spec() if self.ranking else plain.ranking,
                "think": tuple(self.think) if self.think else plain.think,
                "over_length": Policy(self.over_length),
                "bad_rows": Policy(self.bad_rows),
                "bad_rows_share": self.bad_rows_share,
                "n_epochs": None if self.n_epochs == "auto" else self.n_epochs,
                "batch_size": None if self.batch_size == "auto" else self.batch_size,
            }
        )


class FileProblem(Wire):
    """One thing that was found in a file."""

    line: int
    """Line on which the row begins, from 1; 0 where the file as a whole is meant."""
    element: int
    """Number of the row in its array or table, from 1; 0 where the file has lines alone."""
    pointer: str
    """Place inside the row, as a JSON pointer (RFC 6901); empty for the row itself."""
    rule: str
    """Stable id of the rule."""
    message: str
    """The place, what was found, what is expected and the mend."""
    severity: Literal["error", "warn"]
    """`error` where a job would be refused for it, or set the row aside."""


class FileTokenBar(Wire):
    """How many examples have a length within bounds."""

    upto: int
    """Most tokens of these examples; the bar before tells the fewest."""
    examples: int
    """How many they are."""


class FileTokens(Wire):
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
    """Tokens that p1, p5, p25, p50, p75, p95, p99 per cent do not exceed, and `max`."""
    histogram: list[FileTokenBar]
    """Lengths before cutting, in bars that double."""
    cut: int
    """Examples of which some answer, or a part of it, lies beyond the longest length."""
    set_aside: int
    """Examples that would not be trained on."""


class FileEstimate(Wire):
    """The run that a job would make of a file."""

    n_epochs: int
    """How often each example is seen."""
    batch_size: int
    """Examples behind one optimizer step."""
    steps: int
    """Optimizer steps."""
    trained_tokens: int | None
    """Tokens of all epochs; null where tokens were not counted."""


class FileValidation(Wire):
    """What was found in a file."""

    object: Literal["file.validation"] = "file.validation"
    """Tells the kinds of objects apart."""
    file: str
    """Id of the file."""
    valid: bool
    """Whether a job with the same options would take it."""
    format: str | None
    """Format of the examples, told from the content; null where no row was of a known one."""
    method: AnyMethod | None
    """The method, or our objective, that the file was checked for; null for any."""
    examples: int
    """Examples that can be learnt from."""
    bad_rows: int
    """Rows that break a rule: with `bad_rows: set_aside` they are left out."""
    errors: list[FileProblem]
    """The first of each rule, in the file's order; `severity` tells errors from warnings."""
    counts: dict[str, int]
    """How often each rule was broken, by the rule's id."""
    truncated: bool
    """Whether more was found than `errors` lists."""
    tokens: FileTokens | None
    """Token statistics, where a model was named."""
    estimate: FileEstimate | None
    """The run that a job would make of it; null where there is nothing to learn."""

    @classmethod
    def to_wire(cls, report: ValidationReport, *, file_id: str, asked: ValidateFile) -> Self:
        """Return `report` as clients see it."""
        return cls.model_validate(
            {
                **report.model_dump(mode="json", exclude={"ok", "findings", "error_count"}),
                "file": file_id,
                "valid": report.ok,
                "method": asked.method,
                "errors": [finding.model_dump(mode="json") for finding in report.findings],
            }
        )

"""Reads what a run learns from and is evaluated on, and tells what became of the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.dataset.rendering import SetAside, SetAsideRule
from tunesmith.domain.changes import LONGEST, Change, without_validation_file
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.events import EventLevel
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import DataFile, Policy, TrainSpec
from tunesmith.training.examples import Examples, hold_out
from tunesmith.training.failures import RunFailedError
from tunesmith.training.reading import FileContent, read_file
from tunesmith.training.receipt import sha256_of_file
from tunesmith.training.receipt_lines import FileLines
from tunesmith.training.telemetry import EventLog

_EXAMPLES_NAMED = 5
"""How many examples that were set aside an event names; the receipt names all."""


@dataclass(frozen=True)
class Data:
    """What a run learns from and is evaluated on."""

    learnt: Examples
    """What is learnt from."""
    held_out: Examples
    """What the run is evaluated on; may be empty."""
    training: FileContent
    """The training file."""
    validation: FileContent | None
    """The validation file."""

    @property
    def lines(self) -> list[FileLines]:
        """What became of each line of the files."""
        aside = self.training.set_aside
        if self.validation is None:
            return [FileLines("training", self.learnt, self.held_out, aside)]
        return [
            FileLines("training", self.learnt, None, aside),
            FileLines("validation", None, self.held_out, self.validation.set_aside),
        ]


@dataclass(frozen=True)
class Reader:
    """What files are read with."""

    spec: TrainSpec
    """How they are learnt from."""
    artifacts: Artifacts
    """Where they are."""
    tokenizer: PreTrainedTokenizerBase
    """That of the model."""
    context: int | None
    """The most tokens that the model takes at once; `None` where it sets none."""

    def content(self, file: DataFile) -> FileContent:
        """Return what training makes of `file`.

        Raises `InvalidRequestError` where it cannot be used.
        """
        limit = self.spec.max_examples if file is self.spec.training_file else None
        # What is kept in the folder has no name, and lives on behind the block.
        with self.artifacts.open(file.key) as stream, self.artifacts.scratch() as folder:
            return read_file(stream, self.tokenizer, spec=self.spec, limit=limit, folder=folder)

    def usable(self, content: FileContent) -> bool:
        """Tell whether anything can be learnt; of queries and passages, no token is."""
        report = content.report
        return bool(report.learnt_tokens if self.spec.ranking is None else report.examples)

    def mend(self, file: DataFile) -> Change | None:
        """Return the change with which `file`, whose examples are too long, can be used; tried.

        Sooner than something is cut off, what the model takes at once is learnt at once.
        """
        longest = min(self.context or LONGEST, LONGEST)
        if self.spec.ranking is None and longest > self.spec.max_length:
            content = self._tried(file, max_length=longest)
            if content is not None:
                return {"max_length": int(content.examples.lengths.max())}
        if self.spec.over_length is not Policy.CUT and self._tried(file, over_length=Policy.CUT):
            return {"over_length": Policy.CUT.value}
        return None

    def _tried(self, file: DataFile, **changed: object) -> FileContent | None:
        other = replace(self, spec=self.spec.model_copy(update=changed))
        try:
            content = other.content(file)
        except InvalidRequestError:
            return None
        return content if other.usable(content) else None


def read_data(reader: Reader, events: EventLog) -> Data:
    """Read the files of the spec. Raises `RunFailedError` where one cannot be used."""
    spec, data = reader.spec, _read_files(reader, events)
    if spec.early_stopping is not None and not len(data.held_out):
        raise RunFailedError(
            FailureCode.INVALID_HYPERPARAMETERS,
            "Early stopping needs examples that are held out, but there are none. Give a "
            "validation file, or hold out a share of the training file.",
            param="early_stopping",
            change={"early_stopping": None},
        )
    if spec.gate is not None and not spec.measured and not len(data.held_out):
        raise RunFailedError(
            FailureCode.INVALID_HYPERPARAMETERS,
            "A gate needs examples that are held out, but there are none. Give a validation file, "
            "or hold out a share of the training file.",
            param="gate",
        )
    return data


def _read_files(reader: Reader, events: EventLog) -> Data:
    spec = reader.spec
    training = _read(spec.training_file, reader, events=events)
    if not reader.usable(training):
        raise RunFailedError(
            FailureCode.NOTHING_TO_LEARN,
            f"Nothing in '{spec.training_file.filename}' can be learnt: "
            f"{_reasons(training.set_aside) or 'It holds no example.'}",
            param="training_file",
            change=reader.mend(spec.training_file),
        )
    if spec.validation_file is None:
        learnt, held_out = hold_out(
            training.examples, percent=spec.held_out_percent, seed=spec.seed
        )
        return Data(learnt, held_out, training, None)
    validation = _read(spec.validation_file, reader, events=events)
    if not reader.usable(validation):
        raise RunFailedError(
            FailureCode.INVALID_VALIDATION_FILE,
            f"Nothing in '{spec.validation_file.filename}' can be evaluated: "
            f"{_reasons(validation.set_aside) or 'It holds no example.'}",
            param="validation_file",
            change=reader.mend(spec.validation_file) or without_validation_file(),
        )
    return Data(training.examples, validation.examples, training, validation)


def _read(file: DataFile, reader: Reader, *, events: EventLog) -> FileContent:
    code, param = (
        (FailureCode.INVALID_TRAINING_FILE, "training_file")
        if file is reader.spec.training_file
        else (FailureCode.INVALID_VALIDATION_FILE, "validation_file")
    )
    try:
        _check_content(file, reader.artifacts)
        content = reader.content(file)
    except InvalidRequestError as error:
        change = reader.mend(file) if error.code == SetAsideRule.OVER_LENGTH else None
        raise RunFailedError(code, error.message, param=param, change=change) from error
    _tell(file, content, events=events)
    return content


def _check_content(file: DataFile, artifacts: Artifacts) -> None:
    # In a pass of its own, so that a changed file is told as such and not by its first bad line.
    with artifacts.open(file.key) as stream:
        found = sha256_of_file(stream)
    if found != file.sha256:
        raise InvalidRequestError(
            f"The content of '{file.filename}' is not what was uploaded. "
            "Upload the file anew and create the job with that one."
        )


def _tell(file: DataFile, content: FileContent, *, events: EventLog) -> None:
    report, set_aside = content.report, content.set_aside
    events.message(
        f"'{file.filename}': {report.examples} examples, {report.tokens} tokens, "
        f"{report.learnt_tokens} of them learnt; {report.cut} examples cut, "
        f"{len(set_aside)} set aside",
        data={
            **report.model_dump(exclude={"set_aside"}),
            "file": file.id,
            "set_aside": len(set_aside),
        },
    )
    if set_aside:
        events.message(
            f"Examples not used in '{file.filename}': {len(set_aside)}. {_reasons(set_aside)}",
            level=EventLevel.WARN,
            data={"set_aside": [one.model_dump() for one in set_aside[:_EXAMPLES_NAMED]]},
        )


def _reasons(set_aside: Sequence[SetAside]) -> str:
    named = [one.reason for one in set_aside[:_EXAMPLES_NAMED]]
    more = len(set_aside) - len(named)
    return " ".join([*named, f"(And {more} more.)"] if more else named)

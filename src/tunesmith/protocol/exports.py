"""Exports of tuned models, which OpenAI's API does not have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.exports import (
    Export,
    ExportFormat,
    Parity,
    Push,
    PushFolder,
    PushHub,
    Quantization,
)
from tunesmith.domain.values import Page
from tunesmith.protocol.wire import Wire

HUB = "hub:"
"""What a place on the hub begins with."""

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class CreateExport(Wire):
    """The request that exports a model."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """Name of a tuned model or checkpoint."""
    format: Literal["adapter", "merged", "gguf"]
    """What is made of it."""
    quantization: Literal["f32", "f16", "bf16", "q8_0"] | None = None
    """Number format of the matrices; null takes the base model's own, and `f16` for GGUF."""
    push_to: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """A folder below that which the operator set, or `hub:owner/name`; null for neither."""

    def to_quantization(self) -> Quantization | None:
        """Return the number format. Raises `InvalidRequestError` where the format has it not."""
        if self.quantization is None:
            return None
        if self.format == "adapter":
            raise InvalidRequestError(
                "An adapter is handed out as it was trained; leave 'quantization' out.",
                param="quantization",
            )
        if self.format == "merged" and self.quantization == "q8_0":
            raise InvalidRequestError(
                "'q8_0' is a number format of GGUF. Take 'bf16', 'f16' or 'f32', or the format "
                "'gguf'.",
                param="quantization",
            )
        return Quantization(self.quantization)

    def to_push(self, *, folder: Path | None, owner: str | None) -> Push | None:
        """Return where the files go besides.

        `folder` is that below which the project may push, and `owner` whose repositories on the
        hub; `None` allows none. Raises `InvalidRequestError`.
        """
        if self.push_to is None:
            return None
        hub = self.push_to.startswith(HUB)
        parts = self.push_to.removeprefix(HUB).split("/")
        if not all(_PART.fullmatch(part) for part in parts) or (hub and len(parts) != 2):
            raise _refused(
                "must be 'hub:owner/name', or a relative path whose parts begin with a letter or "
                "digit and hold but letters, digits, dots, dashes and underscores"
            )
        if hub:
            if owner is None or parts[0] != owner:
                raise _refused(
                    "names an owner on the hub to whom this service may not push; the operator "
                    "names the one to whom it may with the setting 'push_hub_owner'",
                    code="push_not_allowed",
                )
            return PushHub(repo="/".join(parts))
        if folder is None:
            raise _refused(
                "names a folder, and this service may not write to any; the operator names one "
                "below which it may with the setting 'push_folder'",
                code="push_not_allowed",
            )
        return PushFolder(path=folder.joinpath(*parts))

    def to_format(self) -> ExportFormat:
        """Return what is made."""
        return ExportFormat(self.format)


def _refused(why: str, *, code: str | None = None) -> InvalidRequestError:
    return InvalidRequestError(f"'push_to' {why}.", param="push_to", code=code)


class ExportErrorObject(Wire):
    """Why an export failed."""

    code: str
    """A stable code."""
    message: str
    """What went wrong, where, and the mend."""
    param: str | None
    """The request's field at fault, where there is one."""


class ExportFileObject(Wire):
    """A file of an export."""

    name: str
    """Its path in the export, by which it is downloaded."""
    bytes: int
    """Its size."""
    sha256: str
    """SHA-256 of its content, in hex."""


class ComparisonObject(Wire):
    """How one way to ask the model compares with the model as it was trained."""

    side: str
    """`served`, `merged` or `gguf`."""
    read_by: str
    """The program that answered."""
    bound: float
    """The largest difference that is taken, in nats; of vectors, as a share of the largest number;
    of scores, before they are brought between 0 and 1."""
    largest_difference: float
    """The largest difference that was found."""
    mean_difference: float
    """The mean of all differences."""
    near_ties: int
    """Places where another token came, since the best two were nearer than the bound."""


class ParityObject(Wire):
    """What comparing the ways to ask the model found."""

    measure: Literal["log_probability", "output"]
    """What is compared: log-probabilities of an answer's tokens; or vectors and scores."""
    prompts: int
    """Prompts that were asked."""
    tokens: int
    """Tokens of the answers that were compared; 0 for vectors and scores."""
    sides: list[ComparisonObject]
    """Each way to ask the model."""

    @classmethod
    def to_wire(cls, parity: Parity) -> Self:
        """Return `parity` as clients see it."""
        return cls.model_validate(parity.model_dump(mode="json"))


class ExportObject(Wire):
    """A tuned model as files that other programs load."""

    id: str
    """`exp_…`."""
    object: Literal["model.export"] = "model.export"
    """Tells the kinds of objects apart."""
    model: str
    """Name of the tuned model or checkpoint."""
    format: Literal["adapter", "merged", "gguf"]
    """What is made of it."""
    quantization: str | None
    """Number format of the matrices, as it was asked for."""
    push_to: str | None
    """Where the files go besides."""
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    """Where it stands."""
    progress: float
    """Share that is done, 0 to 1."""
    message: str | None
    """What it is at."""
    error: ExportErrorObject | None
    """Why it failed."""
    files: list[ExportFileObject]
    """What can be downloaded, once it has succeeded."""
    parity: ParityObject | None
    """What comparing the ways to ask the model found."""
    created_at: int
    """Unix seconds."""
    finished_at: int | None
    """Unix seconds at which it ended."""

    @classmethod
    def to_wire(cls, export: Export) -> Self:
        """Return `export` as clients see it."""
        error = export.error
        return cls(
            id=export.id,
            model=export.model,
            format=export.format.value,
            quantization=export.quantization.value if export.quantization else None,
            push_to=export.push_to,
            status=export.status.value,
            progress=export.progress,
            message=export.message,
            error=ExportErrorObject(code=error.code.value, message=error.message, param=error.param)
            if error
            else None,
            files=[
                ExportFileObject(name=file.name, bytes=file.bytes, sha256=file.sha256)
                for file in export.files
            ],
            parity=ParityObject.to_wire(export.parity) if export.parity else None,
            created_at=export.created_at,
            finished_at=export.finished_at,
        )


class ExportList(Wire):
    """One page of exports."""

    object: Literal["list"] = "list"
    """Tells the kinds of objects apart."""
    data: list[ExportObject]
    """The exports, newest first."""
    first_id: str | None
    """Id of the first one."""
    last_id: str | None
    """Id of the last one, for `after`."""
    has_more: bool
    """Whether more follow."""

    @classmethod
    def to_wire(cls, page: Page[Export]) -> Self:
        """Return `page` as clients see it."""
        data = [ExportObject.to_wire(export) for export in page.items]
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=page.has_more,
        )


class ExportDeleted(Wire):
    """The answer to a deletion."""

    id: str
    """The export."""
    object: Literal["model.export.deleted"] = "model.export.deleted"
    """Tells the kinds of objects apart."""
    deleted: Literal[True] = True
    """Always true."""

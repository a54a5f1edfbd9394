"""`/v1/files/{file_id}/rows/{line}`: a row as a model would see it, before any job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Depends, Path, Query, Request

from tunesmith.api.answers import WireRoute
from tunesmith.api.receipts import LAST_LINE
from tunesmith.api.services import Serviced, Services
from tunesmith.api.validation import entry_of, open_content, while_connected
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.errors import ArtifactMissingError, NotFoundError
from tunesmith.domain.hyperparameters import MAX_LENGTH
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.shown_rows import AskedRow
from tunesmith.domain.spec import (
    RANKED,
    THINK_MARKS,
    Method,
    Policy,
    RankingSpec,
    ThinkMark,
    ThinkMarks,
)
from tunesmith.domain.validation import ValidationOptions
from tunesmith.protocol.ranking import Instruction, TextLength
from tunesmith.protocol.reading import shortened
from tunesmith.protocol.shown_rows import FileRowObject
from tunesmith.protocol.tuning import Length

router = APIRouter(route_class=WireRoute, prefix="/v1/files", tags=["files"])
"""The routes of this resource."""

_RANKING = RankingSpec()


@dataclass(frozen=True)
class Seen:
    """A file, and how it is to be seen."""

    file: BinaryIO
    """The file's content."""
    entry: CatalogueEntry
    """The base model that sees it."""
    options: ValidationOptions
    """What a job would be told, by which it is seen."""


def _ranking(
    *,
    query_max_len: Annotated[
        TextLength, Query(description="Tokens of the longest query.")
    ] = _RANKING.query_max_len,
    passage_max_len: Annotated[
        TextLength, Query(description="Tokens of the longest passage.")
    ] = _RANKING.passage_max_len,
    query_instruction: Annotated[
        Instruction, Query(description="What goes before each query.")
    ] = _RANKING.query_instruction,
    passage_instruction: Annotated[
        Instruction, Query(description="What goes before each passage.")
    ] = _RANKING.passage_instruction,
    in_batch_negatives: Annotated[
        bool, Query(description="Whether a row of `embedding` needs no `neg` of its own.")
    ] = _RANKING.in_batch_negatives,
) -> RankingSpec:
    return RankingSpec(
        query_max_len=query_max_len,
        passage_max_len=passage_max_len,
        query_instruction=query_instruction,
        passage_instruction=passage_instruction,
        in_batch_negatives=in_batch_negatives,
    )


def _think(
    *,
    think_begin: Annotated[
        ThinkMark, Query(description="What begins a thought, where the model has no mark for it.")
    ] = THINK_MARKS[0],
    think_end: Annotated[ThinkMark, Query(description="What ends it.")] = THINK_MARKS[1],
) -> ThinkMarks:
    return think_begin, think_end


def _options(
    *,
    model: str,
    method: Annotated[
        Method | None,
        Query(description="The method that the file is for; what the row and the model are for."),
    ] = None,
    max_length: Annotated[Length, Query(description="Tokens of the longest example.")] = MAX_LENGTH,
    over_length: Annotated[
        Literal["cut", "refuse", "set_aside"],
        Query(description="What a job would do with longer examples."),
    ] = "cut",
    ranking: Annotated[RankingSpec, Depends(_ranking)],
    think: Annotated[ThinkMarks, Depends(_think)],
) -> ValidationOptions:
    # The lengths have been checked by their keys.
    return ValidationOptions().model_copy(
        update={
            "model": model,
            "method": method,
            "max_length": max_length,
            "over_length": Policy(over_length),
            "ranking": ranking,
            "think": think,
        }
    )


def _seen(
    services: Serviced, file_id: str, *, options: Annotated[ValidationOptions, Depends(_options)]
) -> Iterator[Seen]:
    model = options.model or ""
    entry = entry_of(services, model)
    if options.method is None and model not in services.catalogue:
        options = options.model_copy(update={"method": _ranked_by(services, model)})
    with open_content(services, file_id, param="file_id") as file:
        yield Seen(file, entry, options)


def _ranked_by(services: Services, model: str) -> Method | None:
    """Return the method by which the tuned `model` learnt vectors or scores; `None` for texts."""
    try:
        job_id = services.store.tuned_model(model).job_id
        method = RunDirectory(services.artifacts, job_id).read_spec().method
    except (NotFoundError, ArtifactMissingError):
        # It went meanwhile, or its run did; the row tells by itself what it is for.
        return None
    return method if method in RANKED else None


def _row(
    line: Annotated[int, Path(ge=1, le=LAST_LINE)],
    element: Annotated[int | None, Query(ge=0, le=LAST_LINE)] = None,
) -> AskedRow:
    return AskedRow(line=line, element=element)


@router.get("/{file_id}/rows/{line}")
async def retrieve_row(
    services: Serviced,
    request: Request,
    *,
    file_id: str,
    seen: Annotated[Seen, Depends(_seen)],
    asked: Annotated[AskedRow, Depends(_row)],
) -> FileRowObject:
    """Show a row of a file as a model would see it: each token, and whether it is learnt.

    It is what the receipt of a job would say that has these options and no others. Of several
    examples on one line of an array, `element` says which; else it is the first.
    """
    work = services.checks.show(seen.file, seen.options, entry=seen.entry, asked=asked)
    row = await while_connected(request, asyncio.ensure_future(work))
    if row is None:
        which = f"element {asked.element} of line" if asked.element else "line"
        raise NotFoundError(
            f"File '{shortened(file_id)}' has no row on {which} {asked.line}.", param="line"
        )
    return FileRowObject.to_wire(row, file_id=file_id, model=seen.options.model or "")

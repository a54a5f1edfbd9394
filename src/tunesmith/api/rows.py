"""`/v1/files/{file_id}/rows/{line}`: a row as a model would see it, before any job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, Path, Query, Request

from tunesmith.api.answers import WireRoute
from tunesmith.api.receipts import LAST_LINE
from tunesmith.api.services import Serviced
from tunesmith.api.validation import entry_of, open_content, while_connected
from tunesmith.domain.errors import NotFoundError
from tunesmith.domain.hyperparameters import MAX_LENGTH
from tunesmith.domain.models import CatalogueEntry
from tunesmith.domain.shown_rows import AskedRow
from tunesmith.domain.spec import Method
from tunesmith.domain.validation import ValidationOptions
from tunesmith.protocol.reading import shortened
from tunesmith.protocol.shown_rows import FileRowObject
from tunesmith.protocol.tuning import Length

router = APIRouter(route_class=WireRoute, prefix="/v1/files", tags=["files"])
"""The routes of this resource."""


@dataclass(frozen=True)
class Seen:
    """A file, and how it is to be seen."""

    file: BinaryIO
    """The file's content."""
    entry: CatalogueEntry
    """The base model that sees it."""
    options: ValidationOptions
    """What a job would be told, by which it is seen."""


def _seen(
    services: Serviced,
    file_id: str,
    *,
    model: str,
    method: Annotated[
        Method | None, Query(description="The method that the file is for; any if left out.")
    ] = None,
    max_length: Annotated[
        Length, Query(description="Tokens of the longest example; what is beyond is cut.")
    ] = MAX_LENGTH,
) -> Iterator[Seen]:
    entry = entry_of(services, model)
    options = ValidationOptions(model=model, method=method, max_length=max_length)
    with open_content(services, file_id, param="file_id") as file:
        yield Seen(file, entry, options)


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

    It is what the receipt of a job would say that has no other options than these. Of several
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

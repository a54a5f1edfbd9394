"""`/v1/files/{file_id}/validate`: what is wrong or dubious in a file, before any job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, BinaryIO, TypeVar

from fastapi import APIRouter, Depends, Request

from tunesmith.api.answers import WireRoute
from tunesmith.api.body import OptionalJsonBody
from tunesmith.api.openapi import json_body
from tunesmith.api.services import Serviced, Services
from tunesmith.domain.errors import (
    ArtifactMissingError,
    InvalidRequestError,
    NotFoundError,
    TokenizerMissingError,
)
from tunesmith.domain.models import CatalogueEntry
from tunesmith.protocol.reading import read_shape, shortened
from tunesmith.protocol.validation import FileValidation, ValidateFile

router = APIRouter(route_class=WireRoute, prefix="/v1/files", tags=["files"])
"""The routes of this resource."""

Report = TypeVar("Report")
"""What a process of its own reports on a file."""

_ASK_AGAIN = 0.5
"""Seconds after which it is asked again whether the client is still there."""


@dataclass(frozen=True)
class Asked:
    """What a request for a check comes to."""

    wanted: ValidateFile
    """The request itself."""
    file: BinaryIO
    """The file's content."""
    held_out: BinaryIO | None
    """The validation file's content."""
    entry: CatalogueEntry | None
    """The base model whose tokens are counted."""


def _asked(services: Serviced, file_id: str, *, body: OptionalJsonBody) -> Iterator[Asked]:
    wanted = read_shape(ValidateFile, body)
    entry = entry_of(services, wanted.model) if wanted.model else None
    with ExitStack() as opened:
        file = opened.enter_context(open_content(services, file_id, param="file_id"))
        held_out = None
        if wanted.validation_file is not None:
            content = open_content(services, wanted.validation_file, param="validation_file")
            held_out = opened.enter_context(content)
        yield Asked(wanted, file, held_out, entry)


@router.post("/{file_id}/validate", openapi_extra=json_body(ValidateFile, required=False))
async def validate_file(
    services: Serviced,
    request: Request,
    *,
    file_id: str,
    asked: Annotated[Asked, Depends(_asked)],
) -> FileValidation:
    """Check a file for all that is wrong or dubious; with a model, count its tokens and steps."""
    check = services.checks.validate(
        asked.file, asked.wanted.to_options(), held_out=asked.held_out, entry=asked.entry
    )
    report = await while_connected(request, asyncio.ensure_future(check))
    return FileValidation.to_wire(report, file_id=file_id, asked=asked.wanted)


async def while_connected(request: Request, check: asyncio.Future[Report]) -> Report:
    """Return the report, or end the check if the client leaves before."""
    try:
        while not check.done():
            await asyncio.wait([check], timeout=_ASK_AGAIN)
            if not check.done() and await request.is_disconnected():
                raise InvalidRequestError("The client left before the check was done.")
        return check.result()
    except TokenizerMissingError as error:
        raise InvalidRequestError(
            error.message, param="model", code="tokenizer_unavailable"
        ) from None
    finally:
        check.cancel()


def entry_of(services: Services, model: str) -> CatalogueEntry:
    """Return the base model of `model`, which may be tuned from it."""
    if model in services.catalogue:
        return services.catalogue[model]
    try:
        base = services.store.tuned_model(model).base
    except NotFoundError:
        base = ""
    if base not in services.catalogue:
        raise NotFoundError(
            f"The model '{shortened(model)}' does not exist.", param="model", code="model_not_found"
        )
    return services.catalogue[base]


def open_content(services: Services, file_id: str, *, param: str) -> BinaryIO:
    """Return a file's content; raises `NotFoundError` for `param` where it is gone."""
    try:
        return services.artifacts.open(services.store.file(file_id).key)
    except NotFoundError as error:
        raise NotFoundError(error.message, param=param) from None
    except ArtifactMissingError:
        raise NotFoundError(
            f"The content of file '{shortened(file_id)}' is gone, since its deletion was begun.",
            param=param,
        ) from None

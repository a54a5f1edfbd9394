"""`/v1/fine_tuning/jobs/{id}/receipt`: what a job learns from, written before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse

from tunesmith.api.answers import WireRoute
from tunesmith.api.codes import RECEIPT_NOT_READY
from tunesmith.api.files import chunks
from tunesmith.api.services import Serviced, Services
from tunesmith.artifacts.receipts import LineReceipt, read_line
from tunesmith.artifacts.runs import ReceiptForm, RunDirectory
from tunesmith.domain.errors import ArtifactMissingError, NotFoundError
from tunesmith.protocol.receipts import (
    ReceiptLineObject,
    ReceiptTextObject,
    SetAsideObject,
    TokenObject,
)

router = APIRouter(
    route_class=WireRoute, prefix="/v1/fine_tuning/jobs/{job_id}/receipt", tags=["fine-tuning"]
)
"""The routes of this resource."""

MEDIA_TYPES: dict[ReceiptForm, str] = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
"""What each form of a receipt is sent as, and under which `Accept` it is meant."""

_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The sums; or line by line; or with each token",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

LAST_LINE = 2**53
"""A line's number is at most what JSON's readers take for a whole number."""


@router.get("", response_class=StreamingResponse, responses=_CONTENT)
def download_receipt(
    request: Request,
    services: Serviced,
    *,
    job_id: str,
    form: Annotated[ReceiptForm | None, Query(alias="format")] = None,
) -> StreamingResponse:
    """Download a job's receipt: its sums, or all lines as JSON lines or, with tokens, Parquet.

    The form is that of `format` or else of the header `Accept`; JSON without them.
    """
    chosen = form or _accepted(request.headers.get("accept", ""))
    stream = _opened(services, job_id, form=chosen)
    headers = {
        "Content-Disposition": f'attachment; filename="receipt-{job_id}.{chosen}"',
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(chunks(stream), media_type=MEDIA_TYPES[chosen], headers=headers)


@router.get("/lines/{line}")
def retrieve_line(
    services: Serviced,
    *,
    job_id: str,
    line: Annotated[int, Path(ge=1, le=LAST_LINE)],
    file: Literal["training", "validation"] = "training",
    element: Annotated[int | None, Query(ge=0, le=LAST_LINE)] = None,
) -> ReceiptLineObject:
    """Show a line as the model sees it: each token, and whether it is learnt.

    Of several examples on one line of an array, `element` says which; else it is the first.
    """
    with _opened(services, job_id, form="parquet") as table:
        found = read_line(table, file, line=line, element=element)
    if not found:
        which = f"element {element} of line {line}" if element else f"line {line}"
        raise NotFoundError(
            f"The {file} file of job '{job_id}' has no example on {which}.", param="line"
        )
    return _shown(job_id, found)


def _accepted(accept: str) -> ReceiptForm:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return next((form for form, kind in MEDIA_TYPES.items() if kind in kinds), "json")


def _opened(services: Services, job_id: str, *, form: ReceiptForm) -> BinaryIO:
    """Open the receipt of the project's job. Raises `NotFoundError` while there is none."""
    job = services.store.job(job_id)
    try:
        return RunDirectory(services.artifacts, job.id).open_receipt(form)
    except ArtifactMissingError:
        ended = "It ended before that." if job.status.terminal else "Ask again once it is running."
        raise NotFoundError(
            f"Job '{job_id}' is {job.status} and has no receipt: that is written when its training "
            f"process has read the files. {ended}",
            param="fine_tuning_job_id",
            code=RECEIPT_NOT_READY,
        ) from None


def _shown(job_id: str, found: Sequence[LineReceipt]) -> ReceiptLineObject:
    first = found[0]
    aside = first.text == 0
    return ReceiptLineObject(
        fine_tuning_job_id=job_id,
        file=first.file,
        line=first.line,
        element=first.element,
        set_aside=SetAsideObject(rule=first.rule, reason=first.reason) if aside else None,
        texts=[] if aside else [_text(each) for each in found],
    )


def _text(receipt: LineReceipt) -> ReceiptTextObject:
    ids, pieces, learnt = receipt.token_ids or (), receipt.pieces or (), receipt.learnt or ()
    return ReceiptTextObject(
        side=receipt.side,
        split=receipt.split,
        cut=receipt.cut,
        end_learnt=receipt.end_learnt,
        tokens_learnt=receipt.tokens_learnt,
        tokens=[
            TokenObject(id=each, text=piece, learnt=is_learnt)
            for each, piece, is_learnt in zip(ids, pieces, learnt, strict=True)
        ],
    )

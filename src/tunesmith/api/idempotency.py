"""The header `Idempotency-Key`, by which a client repeats a creation without a second job.

The rules are Stripe's, for one route: a key is remembered for 24 hours; the same key with the same
request answers with the first one's job, as it is by then; with another request it is refused.
Requests are the same if their JSON is, whatever the order of its keys.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import Depends, Header

from tunesmith.api.body import JsonBody
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.idempotency import IdempotencyKey
from tunesmith.protocol.errors import ErrorBody, ErrorDetail

HEADER = "Idempotency-Key"
"""Name of the request's header."""

REPLAYED = "Idempotency-Replayed"
"""Name of the answer's header, which is `true` where an earlier request has created the job."""

REUSED: dict[int | str, dict[str, Any]] = {
    422: {
        "model": ErrorBody,
        "description": "The idempotency key came with another request before.",
        "content": {
            "application/json": {
                "example": ErrorBody(
                    error=ErrorDetail(
                        message="The idempotency key 'nightly' was sent with another request "
                        "within the last 24 hours, which created job 'ftjob-abc'. Send another key "
                        "for another request.",
                        type="invalid_request_error",
                        param=HEADER,
                        code="idempotency_key_reused",
                    )
                ).model_dump()
            }
        },
    }
}
"""Describes the refusal of a key, for a route's `responses`."""

_MOST = 255
"""Most characters of a key."""


async def _idempotency_key(
    body: JsonBody,
    given: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="1 to 255 visible ASCII characters; the same key within 24 hours creates "
            "no second job.",
        ),
    ] = None,
) -> IdempotencyKey | None:
    """Return the key of the request; raises `InvalidRequestError` where it cannot be one."""
    if given is None:
        return None
    if not 1 <= len(given) <= _MOST or not all("!" <= char <= "~" for char in given):
        raise InvalidRequestError(
            f"'{HEADER}' must have 1 to {_MOST} visible ASCII characters, such as a UUID.",
            param=HEADER,
        )
    asked = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return IdempotencyKey(key=given, request=hashlib.sha256(asked.encode()).hexdigest())


Idempotency = Annotated[IdempotencyKey | None, Depends(_idempotency_key)]
"""A handler's parameter that receives the request's key, if it has one."""

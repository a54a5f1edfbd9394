"""Check a request's query: no unknown key is passed over, and labels are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.protocol.reading import shortened

_LABEL = re.compile(r"(metadata)\[(.*)\]", re.DOTALL)
"""One label in a query, in OpenAI's form."""


async def check_query(request: Request) -> None:
    """Raise `InvalidRequestError` for a key of the query that the route does not know, or twice."""
    route: APIRoute = request.scope["route"]
    known = set(_keys(route.dependant))
    seen: set[str] = set()
    for key, _ in request.query_params.multi_items():
        if key in seen:
            raise InvalidRequestError(
                f"'{shortened(key)}' is given more than once; give it once.", param=key
            )
        seen.add(key)
        label = _LABEL.fullmatch(key)
        if (label[1] if label else key) not in known:
            shown = ", ".join(f"'{name}'" for name in sorted(known)) or "none"
            raise InvalidRequestError(
                f"'{shortened(key)}' is no known key of this query; the known ones are: {shown}. "
                "Remove it or correct its spelling.",
                param=key,
                code="unknown_key",
            )


def _keys(dependant: Dependant) -> Iterator[str]:
    """Yield the keys of the query that a handler and what it depends on take."""
    yield from (field.alias for field in dependant.query_params)
    for needed in dependant.dependencies:
        yield from _keys(needed)


async def _labels(
    request: Request,
    metadata: Annotated[
        Literal["null"] | None,
        Query(description="`metadata[key]=value` for each label, or `metadata=null` for none"),
    ] = None,
) -> Mapping[str, str] | None:
    """Return the labels that listed jobs must carry: none of them at all if empty, any if null."""
    found = ((_LABEL.fullmatch(key), value) for key, value in request.query_params.items())
    labels = {label[2]: value for label, value in found if label}
    if metadata and labels:
        raise InvalidRequestError(
            "'metadata' is null, and labels are given as well; give one.", param="metadata"
        )
    return labels if labels or metadata else None


Labels = Annotated[Mapping[str, str] | None, Depends(_labels)]
"""A handler's parameter that receives the labels by which jobs are listed, `metadata[key]=value`.

Null means all jobs, empty (`metadata=null`) those without any label.
"""

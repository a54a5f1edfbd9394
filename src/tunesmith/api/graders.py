"""OpenAI's alpha graders, which belong to a method that this version does not have."""

from __future__ import annotations

from fastapi import APIRouter

from tunesmith.domain.errors import NotFoundError

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", include_in_schema=False)
"""The paths that say so."""


@router.post("/run")
@router.post("/validate")
def refuse_graders() -> None:
    """Refuse with what there is instead."""
    raise NotFoundError(
        "Graders belong to the method 'reinforcement', which this version does not have; it tunes "
        "by the methods 'supervised' and 'dpo'.",
        code="unknown_url",
    )

"""Where the log of the service's own processes goes, and in which form."""

from __future__ import annotations

import logging

from tunesmith.domain.log_context import JsonFormatter, MaskingFormatter
from tunesmith.settings import Settings, environment_secrets

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s%(context)s"


def log_formatter(settings: Settings) -> logging.Formatter:
    """Return what writes the log's lines: times in UTC, secrets masked."""
    if settings.log_format == "json":
        return JsonFormatter(own_secrets(settings))
    return MaskingFormatter(_LINE, own_secrets(settings))


def own_secrets(settings: Settings) -> frozenset[str]:
    """Return the secrets that the environment and the settings hold."""
    own = {settings.ray_token or "", settings.metrics_token or ""}
    return frozenset({*environment_secrets(), *settings.database_secrets, *own} - {""})


def log_to_stderr(settings: Settings) -> None:
    """Log from here on to standard error."""
    writer = logging.StreamHandler()
    writer.setFormatter(log_formatter(settings))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[writer])
    # They tell again what the first line printed, or the line of a request, says already.
    for chatty in ("alembic", "httpx", "httpx2", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

"""What every log line of a request or a job names, and what none of them may show."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tunesmith.domain.keys import SECRET_PREFIX, SHOWN
from tunesmith.domain.webhooks import SECRET_PREFIX as HOOK_PREFIX

_CONTEXT: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)

_OUR_KEY = re.compile(rf"({SECRET_PREFIX}[A-Za-z0-9_-]{{{SHOWN - len(SECRET_PREFIX)}}})[\w-]+")
"""An API key; what is kept of it in the clear may be shown."""

_HOOK_SECRET = re.compile(rf"{HOOK_PREFIX}[A-Za-z0-9+/_=-]+")
"""A secret that signs what webhooks are told."""

_KEYS = {"request": "request_id", "job": "job_id", "client": "client_request_id"}
"""What JSON calls what a text line calls by a shorter name."""

_MASK = "***"
"""Stands where a secret was."""


def mark_logs(**fields: str) -> dict[str, str]:
    """Name `fields` in each log line from here on, in this task and in those that it starts.

    Returns them; what is added to them later is named as well.
    """
    _CONTEXT.set(fields)
    return fields


@contextmanager
def marked_logs(**fields: str) -> Iterator[None]:
    """Name `fields` in each log line of the block."""
    before = _CONTEXT.set(fields)
    try:
        yield
    finally:
        _CONTEXT.reset(before)


def masked(text: str, secrets: Collection[str] = ()) -> str:
    """Return `text` without the `secrets`, with no more of an API key than its beginning.

    Nor does it have webhooks' secrets.
    """
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return _HOOK_SECRET.sub(f"{HOOK_PREFIX}{_MASK}", _OUR_KEY.sub(rf"\1{_MASK}", text))


class MaskingFormatter(logging.Formatter):
    """Writes a log line, its traceback included, with its context and without secrets."""

    def __init__(self, line: str, secrets: Collection[str] = ()) -> None:
        """Write lines of the form `line`, in which `%(context)s` names the request or the job."""
        super().__init__(line)
        self.converter = time.gmtime
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`; times are UTC's."""
        fields = _CONTEXT.get()
        shown = " ".join(f"{name}={value}" for name, value in (fields or {}).items())
        record.context = f" [{shown}]" if shown else ""
        return masked(super().format(record), self._secrets)


class JsonFormatter(MaskingFormatter):
    """Writes a log line as a JSON object: a request's as `request_id`, a job's as `job_id`."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, secrets: Collection[str] = (), **always: str | int) -> None:
        """Write lines without the `secrets`, which all have the keys of `always`."""
        super().__init__("%(message)s", secrets)
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`; a traceback is its `exception`."""
        line: dict[str, str | int] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage(), self._secrets),
            **self._always,
        }
        for name, text in (_CONTEXT.get() or {}).items():
            line[_KEYS.get(name, name)] = masked(text, self._secrets)
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info), self._secrets)
        return json.dumps(line, ensure_ascii=False)

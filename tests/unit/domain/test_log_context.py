"""The log as JSON: what each line names, and what none shows."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tunesmith.domain.log_context import JsonFormatter, marked_logs

SECRET = "s3cret-of-the-environment"


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    log, text = logging.Logger("tunesmith.test"), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter({SECRET}, rank=0))
    log.addHandler(handler)
    yield log, text
    handler.close()


def lines(text: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_a_line_is_an_object_that_names_the_request_and_the_job(
    written: tuple[logging.Logger, io.StringIO],
) -> None:
    log, text = written
    log.info("Before")
    with marked_logs(request="req_1", client="mine", project="blue"):
        log.warning('%d files of "%s"', 2, "a\nb")
    with marked_logs(job="ftjob-1"):
        log.error("It fails")

    first, second, third = lines(text)
    assert first.keys() == {"time", "level", "logger", "message", "rank"}
    assert first["time"].endswith("Z")
    assert second["message"] == '2 files of "a\nb"'
    assert second["level"] == "WARNING"
    assert {"request_id": "req_1", "client_request_id": "mine", "project": "blue"}.items() <= (
        second.items()
    )
    assert third["job_id"] == "ftjob-1"
    assert "request_id" not in third


def test_neither_message_nor_traceback_nor_context_shows_a_secret(
    written: tuple[logging.Logger, io.StringIO],
) -> None:
    log, text = written
    with marked_logs(client=SECRET):
        try:
            int(SECRET)
        except ValueError:
            log.exception("sk-ts-aaaaaaaaaaaaaaaaaaaaaaaaaaaa is refused")

    [line] = lines(text)
    assert "Traceback" in line["exception"]
    assert "invalid literal" in line["exception"]
    assert SECRET not in text.getvalue()
    assert "aaaaaaaaaaaaaaaaaaaaaaaa" not in text.getvalue()

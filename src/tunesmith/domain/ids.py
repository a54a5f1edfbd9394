"""Ids, in the forms that clients of both dialects expect."""

from __future__ import annotations

import re
import secrets
import string
import uuid
from enum import StrEnum

_ALPHABET = string.ascii_letters + string.digits
_CHECKPOINT = re.compile(r":ckpt-step-([0-9]{1,18})$")
_FILE_ID = re.compile(r"file-[A-Za-z0-9]{24}")


class Dialect(StrEnum):
    """Which API a job was created through; it decides the job's id and its wire shape."""

    OPENAI = "openai"
    OPEA = "opea"


def _token(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_file_id() -> str:
    """Return a fresh file id, `file-` and 24 letters or digits (143 random bits)."""
    return f"file-{_token(24)}"


def is_file_id(text: str) -> bool:
    """Tell whether `text` has the form of a file id; anything else is a file's name."""
    return _FILE_ID.fullmatch(text) is not None


def new_upload_id() -> str:
    """Return a fresh upload id, `upload_` and 24 characters."""
    return f"upload_{_token(24)}"


def new_part_id() -> str:
    """Return a fresh id of an upload's part, `part_` and 24 characters."""
    return f"part_{_token(24)}"


def new_job_id(dialect: Dialect) -> str:
    """Return a fresh job id: `ft-job-<uuid4>` for OPEA, `ftjob-` and 24 characters for OpenAI."""
    return f"ft-job-{uuid.uuid4()}" if dialect is Dialect.OPEA else f"ftjob-{_token(24)}"


def new_estimate_id() -> str:
    """Return a fresh id of an estimate, `ftestimate-` and 24 characters."""
    return f"ftestimate-{_token(24)}"


def new_answer_id(kind: str) -> str:
    """Return a fresh id of a model's answer: its `kind`, a hyphen and 24 characters."""
    return f"{kind}-{_token(24)}"


def new_export_id() -> str:
    """Return a fresh id of an export, `exp_` and 24 characters."""
    return f"exp_{_token(24)}"


def new_event_id() -> str:
    """Return a fresh event id, `ftevent-` and 24 characters."""
    return f"ftevent-{_token(24)}"


def new_checkpoint_id() -> str:
    """Return a fresh checkpoint id, `ftckpt_` and 24 characters."""
    return f"ftckpt_{_token(24)}"


def new_key_id() -> str:
    """Return a fresh id of an API key, `key_` and 24 characters; it is no secret."""
    return f"key_{_token(24)}"


def new_endpoint_id() -> str:
    """Return a fresh id of a webhook endpoint, `we_` and 24 characters."""
    return f"we_{_token(24)}"


def new_delivery_id() -> str:
    """Return a fresh id of a webhook's delivery, `wh_` and 24 characters."""
    return f"wh_{_token(24)}"


def new_webhook_event_id() -> str:
    """Return a fresh id of an event that webhooks tell of, `evt_` and 24 characters."""
    return f"evt_{_token(24)}"


def new_permission_id() -> str:
    """Return a fresh id of a checkpoint permission, `cp_` and 24 characters."""
    return f"cp_{_token(24)}"


def tuned_model_name(*, base: str, organization: str, suffix: str | None, job_id: str) -> str:
    """Return the tuned model's name, `ft:<base>:<organization>:<suffix>:<id>`.

    The id is the last 8 letters or digits of the job's id. Without a suffix the
    field is empty, which gives a double colon, as OpenAI does.
    """
    tail = "".join(c for c in job_id if c in _ALPHABET)[-8:]
    return f"ft:{base}:{organization}:{suffix or ''}:{tail}"


def checkpoint_step(name: str) -> int | None:
    """Return the step of the checkpoint that is known as `name`; `None` for a tuned model."""
    found = _CHECKPOINT.search(name)
    return int(found[1]) if found else None


def checkpoint_model_name(tuned_model: str, step: int) -> str:
    """Return the name under which a checkpoint of a tuned model is known."""
    return f"{tuned_model}:ckpt-step-{step}"

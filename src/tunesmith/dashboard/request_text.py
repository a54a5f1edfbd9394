"""A request for a job as a command for the shell, and as a program in Python."""

from __future__ import annotations

import json
import shlex

from tunesmith.dashboard.door import Thing

_OPENAIS = ("model", "training_file", "validation_file", "suffix", "seed", "method")
"""The keys that the official client knows."""


def as_curl(request: Thing, *, address: str) -> str:
    """Return a `curl` command that sends `request` to the service at `address`."""
    body = shlex.quote(json.dumps(request, indent=2, ensure_ascii=False))
    return (
        f"curl {shlex.quote(f'{address}/v1/fine_tuning/jobs')} \\\n"
        '  -H "Authorization: Bearer $TUNESMITH_KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {body}"
    )


def as_python(request: Thing, *, address: str) -> str:
    """Return a program that does the same through the official client."""
    own = {key: value for key, value in request.items() if key not in _OPENAIS}
    lines = [f"    {key}={_literal(request[key], 4)},\n" for key in _OPENAIS if key in request]
    if own:
        lines.append(f"    extra_body={_literal(own, 4)},\n")
    return (
        "import os\n\nfrom openai import OpenAI\n\n"
        f"client = OpenAI(base_url={_literal(f'{address}/v1', 0)}, "
        'api_key=os.environ["TUNESMITH_KEY"])\n'
        f"job = client.fine_tuning.jobs.create(\n{''.join(lines)})\n"
        "print(job.id)\n"
    )


def _literal(value: object, indent: int) -> str:
    """Return `value` as Python writes it, objects key by key on lines of their own."""
    if isinstance(value, dict):
        inner = " " * (indent + 4)
        pairs = "".join(
            f"{inner}{_literal(key, 0)}: {_literal(each, indent + 4)},\n"
            for key, each in value.items()
        )
        return f"{{\n{pairs}{' ' * indent}}}" if value else "{}"
    if isinstance(value, str):
        # JSON's quotes are Python's too, and prettier than those of `repr`.
        return json.dumps(value)
    return repr(value)

"""Compiles chat templates, the Jinja programs that come with models, as transformers does.

They are other people's programs: a sandbox keeps them from all but the values
that they are given. What they may use besides plain Jinja is what transformers
documents for authors of templates: `tojson` that escapes nothing, `raise_exception`,
`strftime_now`, `break` and `continue`, and the block `{% generation %}`.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from jinja2.environment import Template
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node, Scope
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


@functools.lru_cache(maxsize=16)
def compiled(template: str) -> Template:
    """Return `template`, ready to be rendered. Raises `jinja2.TemplateError` for bad syntax."""
    return _environment().from_string(template)


class _Generation(Extension):
    """Writes what a `{% generation %}` block holds: it only marks the assistant's text."""

    tags = {"generation"}  # noqa: RUF012  as Jinja declares it

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        return Scope(
            parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line
        )


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }
    return environment


def _to_json(value: Any, *given: Any, **named: Any) -> str:
    # By place or by name, in transformers' order.
    options = dict(zip(("ensure_ascii", "indent", "separators", "sort_keys"), given, strict=False))
    return json.dumps(value, **({"ensure_ascii": False} | options | named))


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    # Templates write the date of the place where they run, as transformers does.
    return datetime.now().strftime(pattern)

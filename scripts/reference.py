"""Writes `docs/reference/settings.md` from the settings themselves: `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from tunesmith.domain.models import FolderSource, HubSource, PackageSource
from tunesmith.domain.values import Value
from tunesmith.settings import ModelSetting, Settings

TARGET = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"

INTRODUCTION = """\
# Settings

This page is written by `make docs` from `src/tunesmith/settings.py`.

A value comes from the command line, else from the environment, else from the settings file
(TOML), else it is the default. A setting that does not exist, or whose value cannot be used, stops
the service at its start, with the setting's name.

| setting | environment | default | meaning |
|---|---|---|---|
"""

MODELS = """
## Base models

`smollm2-135m-instruct` is there without any setting. Each further model is a table of the settings
file; its name is what clients give as `model`:

```toml
[models."meta-llama/Llama-3.2-1B-Instruct"]
source = { kind = "hub", repo = "meta-llama/Llama-3.2-1B-Instruct", revision = "main" }

[models.in-house]
source = { kind = "folder", path = "/models/in-house" }
```

| key | default | meaning |
|---|---|---|
"""

WORKERS = """
## On the workers

The training processes read no setting of ours. The hub's own library reads `HF_TOKEN` (for private
models), `HF_HOME` and `HF_HUB_OFFLINE` from the environment of the node on which it runs: for the
service's own Ray that is the environment of `tunesmith serve`, for a cluster that `RAY_ADDRESS`
names it is that of its nodes. The token is never sent by the service, nor written anywhere.

To reach a cluster that asks for a token, give Ray's own `RAY_AUTH_MODE=token` with
`RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH` to `tunesmith serve`.
"""


def settings_page() -> str:
    """Return the whole page."""
    rows = [_setting(name, field) for name, field in Settings.model_fields.items()]
    models = [_key(name, field) for name, field in ModelSetting.model_fields.items()]
    sources = [_source(kind) for kind in (FolderSource, HubSource, PackageSource)]
    return INTRODUCTION + "".join(rows) + MODELS + "".join(models) + "".join(sources) + WORKERS


def _setting(name: str, field: FieldInfo) -> str:
    variable = "RAY_ADDRESS" if name == "ray_address" else f"TUNESMITH_{name.upper()}"
    return f"| `{name}` | `{variable}` | {_default(field)} | {field.description} |\n"


def _key(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_default(field)} | {field.description} |\n"


def _source(kind: type[Value]) -> str:
    first = (kind.__doc__ or "").strip()
    value = kind.model_fields["kind"].default
    rows = [
        f"| `{name}` | {_default(field)} | {field.description} |\n"
        for name, field in kind.model_fields.items()
        if name != "kind"
    ]
    head = f'\n### `kind = "{value}"`\n\n{first}\n\n| key | default | meaning |\n|---|---|---|\n'
    return head + "".join(rows)


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if field.is_required():
        return "required"
    return "none" if default in (None, {}) else f"`{default}`"


if __name__ == "__main__":
    TARGET.write_text(settings_page(), encoding="utf-8")

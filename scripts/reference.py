"""Writes the pages of `docs/reference` that follow from the code: `make docs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from tunesmith.api.app import create_app
from tunesmith.api.checks import FileChecks
from tunesmith.api.services import Services
from tunesmith.artifacts.memory import MemoryArtifacts
from tunesmith.cluster.fake_answering import FakeAnswering
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.models import FolderSource, HubSource, PackageSource
from tunesmith.domain.node_groups import NodeGroup
from tunesmith.domain.values import Value
from tunesmith.protocol.adapters import AdapterRequest
from tunesmith.protocol.opea_create import OpeaCreateJob
from tunesmith.protocol.opea_dataset import DatasetSection
from tunesmith.protocol.opea_general import GeneralSection, LoraConfig, ModelConfig, XtuneConfig
from tunesmith.protocol.opea_training import EmbeddingConfig, Resources, TrainingSection
from tunesmith.protocol.preferences import PreferenceRequest
from tunesmith.protocol.ranking import RankingRequest
from tunesmith.protocol.tuning import EarlyStoppingRequest, TuningRequest
from tunesmith.protocol.wire import Wire
from tunesmith.settings import ModelSetting, Settings
from tunesmith.store.sql import SqlStore

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"

RAYS_OWN = {"ray_address": "RAY_ADDRESS", "ray_token": "RAY_AUTH_TOKEN"}
"""Settings that are read under the names that Ray gave them."""

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

NODE_GROUPS = """
## Nodes that are added

Ray does not tell what nodes an autoscaler could still add, so the service is told, of each group
under the name that the autoscaler has for it
([let the cluster grow](../how-to/let-the-cluster-grow.md)).

```toml
[node_groups.cards]
resources = { CPU = 16, memory = "64Gi", GPU = 2 }
most = 4
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
So it is with the variables of [Weights & Biases and MLflow](../how-to/track-runs.md).

The token for the cluster goes to that cluster alone.
"""


def settings_page() -> str:
    """Return the whole page."""
    rows = [_setting(name, field) for name, field in Settings.model_fields.items()]
    models = [_key(name, field) for name, field in ModelSetting.model_fields.items()]
    sources = [_source(kind) for kind in (FolderSource, HubSource, PackageSource)]
    groups = [_key(name, field) for name, field in NodeGroup.model_fields.items()]
    parts = (INTRODUCTION, *rows, MODELS, *models, *sources, NODE_GROUPS, *groups, WORKERS)
    return "".join(parts)


def _setting(name: str, field: FieldInfo) -> str:
    variable = RAYS_OWN.get(name, f"TUNESMITH_{name.upper()}")
    return f"| `{name}` | `{variable}` | {_default(field)} | {_line(field)} |\n"


def _key(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_default(field)} | {_line(field)} |\n"


def _source(kind: type[Value]) -> str:
    first = (kind.__doc__ or "").strip()
    value = kind.model_fields["kind"].default
    rows = [
        f"| `{name}` | {_default(field)} | {_line(field)} |\n"
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


ROUTES = """\
# Routes

This page is written by `make docs` from `src/tunesmith/api/`; the service itself gives all shapes
at `/openapi.json`.

Both dialects share `/v1/files` and `/v1/fine_tuning/jobs`. A request to create a job is OPEA's if
it has one of the keys `General`, `Dataset` and `Training`, or gives its training file's name rather
than its id (`file-…`). A job is seen through both: OpenAI's routes show every job in OpenAI's
shape, OPEA's own three in OPEA's, and creating and listing show each in the shape of the dialect in
which it was made. A refused request answers as [errors](errors.md) tells; every answer has an
`x-request-id`, which the log names too.

| method | path | what it does |
|---|---|---|
"""


def routes_page() -> str:
    """Return the page of all routes."""
    services = Services(
        answering=FakeAnswering(),
        store=SqlStore.open("sqlite://", SystemClock()),
        artifacts=MemoryArtifacts(),
        catalogue={},
        organization="tunesmith",
        clock=SystemClock(),
        max_upload_bytes=1,
        version="0",
        checks=FileChecks(lambda _: Path("/models"), workers=1),
        open_without_keys=True,
    )
    paths = create_app(services).openapi()["paths"]
    rows = [
        f"| {method.upper()} | `{path}` | {' '.join(route['description'].split())} |\n"
        for path, methods in paths.items()
        for method, route in methods.items()
    ]
    return ROUTES + "".join(sorted(rows, key=lambda row: row.split("|")[2]))


TUNING = """\
# Tuning

This page is written by `make docs` from `src/tunesmith/protocol/tuning.py` and `preferences.py`.

What OpenAI's API has no place for stands in one object, `tuning`, of the request that creates a
job. The official client sends it by `extra_body`:

```python
client.fine_tuning.jobs.create(
    model="smollm2-135m-instruct",
    training_file=file.id,
    extra_body={"tuning": {"adapter": {"rank": 32}, "held_out_percent": 10}},
)
```

Every key may be left out. The job shows the same object, with what was left open filled in: the
learning rate once the files are validated, the rest once the job is launched. A key that is not
here is refused with the nearest one that is.

"""


def tuning_page() -> str:
    """Return the page of our own options."""
    shapes: dict[str, type[Wire]] = {
        "`tuning`": TuningRequest,
        "`tuning.preference`": PreferenceRequest,
        "`tuning.adapter`": AdapterRequest,
        "`tuning.ranking`": RankingRequest,
        "`tuning.early_stopping`": EarlyStoppingRequest,
    }
    return TUNING + "\n".join(_shape(title, shape) for title, shape in shapes.items())


def _shape(title: str, shape: type[Wire]) -> str:
    schemas = shape.model_json_schema()["properties"]
    rows = [
        f"| `{name}` | {_values(schemas[name])} | {_wire_default(field)} | {_line(field)} |\n"
        for name, field in shape.model_fields.items()
    ]
    return f"## {title}\n\n| key | values | default | meaning |\n|---|---|---|---|\n" + "".join(
        rows
    )


def _line(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _wire_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Wire):
        return "its own defaults"
    return f"`{json.dumps(default)}`"


def _values(schema: dict[str, Any]) -> str:
    """Return in words what a JSON schema takes."""
    if "anyOf" in schema:
        return " or ".join(_values(choice) for choice in schema["anyOf"])
    if "$ref" in schema:
        return "an object"
    if "enum" in schema:
        return ", ".join(f"`{_literal(choice)}`" for choice in schema["enum"])
    if schema["type"] == "array":
        if "enum" in schema["items"]:
            return f"a list of {_values(schema['items'])}"
        fewest, most = schema["minItems"], schema["maxItems"]
        return (
            f"a list of {most} names" if fewest == most else f"a list of {fewest} to {most} names"
        )
    words = {"boolean": "`true`, `false`", "null": "`null`", "string": "a string"}
    return words.get(schema["type"]) or f"{schema['type']}{_bounds(schema)}"


def _literal(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    return "".join(f" {word} {schema[key]:.10g}" for key, word in words.items() if key in schema)


OPEA = """\
# The keys of OPEA's request

This page is written by `make docs` from `src/tunesmith/protocol/opea_*.py`.

What OPEA's clients send to create a job is read into the same spec as OpenAI's requests. Each key
is honoured, or takes only values that ask nothing of it and is refused by its name otherwise, or is
without effect and says so here. A key that is not here is refused.

A training file is named as OPEA does, by its file name; the newest of that name is meant.

Tasks train an adapter of the shape that `General.lora_config` gives, or all weights where it is
null and, as with OPEA, where it is left out with `embedding` and `rerank`. OPEA trains all weights
for `pretraining` and `reasoning` in any case, and resizes the embeddings for the latter; here the
adapter asked for is trained, and no weight is added.

"""


def opea_page() -> str:
    """Return the page of OPEA's keys."""
    shapes: dict[str, type[Wire]] = {
        "The request": OpeaCreateJob,
        "`General`": GeneralSection,
        "`General.config`": ModelConfig,
        "`General.lora_config`": LoraConfig,
        "`General.xtune_config`": XtuneConfig,
        "`Dataset`": DatasetSection,
        "`Training`": TrainingSection,
        "`Training.resources_per_worker`": Resources,
        "`Training.embedding_training_config`": EmbeddingConfig,
    }
    return OPEA + "\n".join(_opea_keys(title, shape) for title, shape in shapes.items())


def _opea_keys(title: str, shape: type[Wire]) -> str:
    rows = [
        f"| `{name}` | {_wire_default(field)} | {_line(field)} |\n"
        for name, field in shape.model_fields.items()
    ]
    return f"## {title}\n\n| key | default | meaning |\n|---|---|---|\n" + "".join(rows)


PAGES = {
    "settings.md": settings_page,
    "routes.md": routes_page,
    "tuning.md": tuning_page,
    "opea-keys.md": opea_page,
}
"""Each page that is written, and what writes it."""

if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")

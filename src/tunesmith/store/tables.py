"""The tables. Each has the fields of one domain value as its columns, behind a sequence.

The sequence `seq` numbers the rows in the order of their insertion; lists are
sorted and paged by it. `tests/unit/store/test_schema.py` holds the columns to
the fields, and the migrations to these tables.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from tunesmith.domain.projects import DEFAULT_PROJECT

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""All tables. Names of constraints follow a rule, so that migrations can name them anywhere."""


# SQLite numbers only columns of the type INTEGER by itself.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")


def _sequence() -> Column[int]:
    return Column("seq", _NUMBER, primary_key=True)


def _json(name: str, *, nullable: bool = False, default: str | None = None) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=nullable, server_default=default)


def _project() -> Column[str]:
    return Column("project", String, nullable=False, server_default=DEFAULT_PROJECT)


def _deleting() -> Column[bool]:
    return Column("deleting", Boolean, nullable=False, server_default=false())


def _job_id() -> Column[str]:
    return Column("job_id", String, ForeignKey("jobs.id"), nullable=False)


PROJECTS = Table(
    "projects",
    METADATA,
    _sequence(),
    Column("name", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("max_bytes", BigInteger),
    Column("max_jobs", BigInteger),
    Column("requests_per_minute", BigInteger),
    Column("share", BigInteger),
    sqlite_autoincrement=True,
)
"""One `Project` a row; the default one is there from the start."""

API_KEYS = Table(
    "api_keys",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("project", String, ForeignKey("projects.name"), nullable=False),
    Column("name", Text, nullable=False),
    Column("scope", String, nullable=False),
    Column("prefix", String, nullable=False),
    Column("digest", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    sqlite_autoincrement=True,
)
"""One `ApiKey` a row. A revoked one stays, so that its use can be told from a made-up one's."""

# Without `sqlite_autoincrement`, SQLite would give the number of a deleted last row again.
FILES = Table(
    "files",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("filename", Text, nullable=False),
    Column("purpose", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("key", Text, nullable=False, index=True),
    Column("expires_at", BigInteger, index=True),
    _project(),
    Index(None, "project", "bytes"),
    Index(None, "project", "seq"),
    Index(None, "project", "purpose", "seq"),
    Index(None, "project", "filename", "seq"),
    sqlite_autoincrement=True,
)
"""One `File` a row."""

UPLOADS = Table(
    "uploads",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("filename", Text, nullable=False),
    Column("purpose", String, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("expires_after", BigInteger),
    Column("status", String, nullable=False),
    Column("file_id", String),
    _project(),
    Index(None, "project", "status"),
    sqlite_autoincrement=True,
)
"""One `Upload` a row. Its file may be deleted, so the file's id is no foreign key."""

UPLOAD_PARTS = Table(
    "upload_parts",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("upload_id", String, ForeignKey("uploads.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Index(None, "upload_id", "seq"),
    sqlite_autoincrement=True,
)
"""One `UploadPart` a row."""

JOBS = Table(
    "jobs",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("dialect", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String, nullable=False, index=True),
    Column("model", Text, nullable=False),
    _json("start_from", nullable=True),
    Column("training_file", String, nullable=False),
    Column("training_filename", Text, nullable=False),
    Column("validation_file", String),
    Column("validation_filename", Text),
    _json("request"),
    _json("resolved", nullable=True),
    _json("tuning", nullable=True),
    Column("seed", BigInteger, nullable=False),
    Column("organization", Text, nullable=False),
    Column("fine_tuned_model", Text),
    Column("trained_tokens", BigInteger),
    Column("finished_at", BigInteger, index=True),
    Column("estimated_finish", BigInteger),
    _json("result_files"),
    _json("error", nullable=True),
    Column("verdict", String),
    Column("attempt", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("submission_open", Boolean, nullable=False, index=True),
    Column("stopping", Boolean, nullable=False, server_default=false()),
    Column("began_at", BigInteger),
    Column("run_seconds", BigInteger, nullable=False, server_default="0"),
    Column("run_events_seen", BigInteger, nullable=False),
    Column("traceparent", String),
    _project(),
    Index(None, "project", "seq"),
    sqlite_autoincrement=True,
)
"""One `Job` a row. Its files may be deleted once it has ended, so their ids are no foreign keys."""

JOB_LABELS = Table(
    "job_labels",
    METADATA,
    Column("job_seq", _NUMBER, ForeignKey("jobs.seq"), primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    _project(),
    Index(None, "project", "key", "value", "job_seq"),
)
"""The labels in a job's `metadata`, one a row, by which lists of jobs are filtered."""

EVENTS = Table(
    "events",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    _job_id(),
    Column("created_at", BigInteger, nullable=False),
    Column("level", String, nullable=False),
    Column("type", String, nullable=False),
    Column("message", Text, nullable=False),
    _json("data", nullable=True),
    Index(None, "job_id", "seq"),
    sqlite_autoincrement=True,
)
"""One `Event` a row."""

CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    _job_id(),
    Column("created_at", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("model", Text, nullable=False, index=True),
    _json("metrics"),
    Column("key", Text, nullable=False),
    _deleting(),
    UniqueConstraint("job_id", "step"),
    Index(None, "job_id", "seq"),
    sqlite_autoincrement=True,
)
"""One `Checkpoint` a row."""

TUNED_MODELS = Table(
    "tuned_models",
    METADATA,
    _sequence(),
    Column("name", String, nullable=False, unique=True),
    Column("base", Text, nullable=False),
    _job_id(),
    Column("created_at", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    _deleting(),
    _project(),
    Index(None, "project", "seq"),
    sqlite_autoincrement=True,
)
"""One `TunedModel` a row."""

WEBHOOK_ENDPOINTS = Table(
    "webhook_endpoints",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    _json("event_types"),
    Column("secret", String, nullable=False),
    Column("old_secret", String),
    Column("old_secret_until", BigInteger),
    Column("enabled", Boolean, nullable=False),
    _project(),
    Index(None, "project", "seq"),
    sqlite_autoincrement=True,
)
"""One `WebhookEndpoint` a row."""

WEBHOOK_DELIVERIES = Table(
    "webhook_deliveries",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("endpoint_id", String, ForeignKey("webhook_endpoints.id"), nullable=False),
    Column("event_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("job_id", String, ForeignKey("jobs.id")),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("status", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", BigInteger, index=True),
    Column("attempted_at", BigInteger),
    Column("status_code", Integer),
    Column("error", Text),
    Column("delivered_at", BigInteger),
    Index(None, "endpoint_id", "seq"),
    sqlite_autoincrement=True,
)
"""One `Delivery` a row."""

SIGNS_OF_LIFE = Table(
    "signs_of_life",
    METADATA,
    Column("process", String, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("cluster_up", Boolean, nullable=False),
    _json("there", default="{}"),
    _json("held", default="{}"),
)
"""One `SignOfLife` a row, the last of its process."""

WAITS = Table(
    "waits",
    METADATA,
    Column("job_id", String, ForeignKey("jobs.id"), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    _json("missing"),
    _json("held_by"),
    Column("expected_start", BigInteger),
)
"""One `Wait` a row, as the controller last told it; of a job that waits no more until then too."""

LEASES = Table(
    "leases",
    METADATA,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False),
)
"""One `Lease` a row."""

PERMISSIONS = Table(
    "checkpoint_permissions",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("model", String, nullable=False),
    Column("project_id", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    _project(),
    UniqueConstraint("model", "project_id"),
    Index(None, "model", "seq"),
    sqlite_autoincrement=True,
)
"""One `Permission` a row."""

ESTIMATES = Table(
    "estimates",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String, nullable=False, index=True),
    _json("job"),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger, index=True),
    _json("measurement", nullable=True),
    _json("factors"),
    Column("actual_step_seconds", Double),
    _json("error", nullable=True),
    _project(),
    sqlite_autoincrement=True,
)
"""One `Estimate` a row."""

EXPORTS = Table(
    "exports",
    METADATA,
    _sequence(),
    Column("id", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String, nullable=False, index=True),
    Column("model", String, nullable=False, index=True),
    _job_id(),
    Column("key", String, nullable=False),
    Column("format", String, nullable=False),
    Column("quantization", String),
    Column("push_to", String),
    _json("push", nullable=True),
    Column("progress", Double, nullable=False),
    Column("message", Text),
    _json("error", nullable=True),
    _json("files"),
    _json("parity", nullable=True),
    Column("attempt", BigInteger, nullable=False),
    Column("submission_open", Boolean, nullable=False, index=True),
    Column("finished_at", BigInteger),
    _project(),
    sqlite_autoincrement=True,
)
"""One `Export` a row."""

IDEMPOTENCY_KEYS = Table(
    "idempotency_keys",
    METADATA,
    Column("project", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("request", String, nullable=False),
    _job_id(),
    Column("created_at", BigInteger, nullable=False, index=True),
)
"""Which job the request of an `IdempotencyKey` has created."""

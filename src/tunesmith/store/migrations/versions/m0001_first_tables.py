"""Files, jobs, events, checkpoints and tuned models."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Create the tables."""
    _create_files()
    _create_jobs()
    _create_events()
    _create_checkpoints()
    _create_tuned_models()


def _create(table: str, *columns: sa.schema.SchemaItem) -> None:
    sequence: sa.Column[Any] = sa.Column("seq", _NUMBER, nullable=False)
    key = sa.PrimaryKeyConstraint("seq", name=f"pk_{table}")
    op.create_table(table, sequence, *columns, key, sqlite_autoincrement=True)


def _create_files() -> None:
    _create(
        "files",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.UniqueConstraint("id", name="uq_files_id"),
    )
    op.create_index("ix_files_purpose_seq", "files", ["purpose", "seq"])
    op.create_index("ix_files_filename_seq", "files", ["filename", "seq"])


def _create_jobs() -> None:
    _create(
        "jobs",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("dialect", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("training_file", sa.String, nullable=False),
        sa.Column("training_filename", sa.Text, nullable=False),
        sa.Column("validation_file", sa.String),
        sa.Column("validation_filename", sa.Text),
        sa.Column("request", _JSON, nullable=False),
        sa.Column("resolved", _JSON),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("fine_tuned_model", sa.Text),
        sa.Column("trained_tokens", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("estimated_finish", sa.BigInteger),
        sa.Column("result_files", _JSON, nullable=False),
        sa.Column("error", _JSON),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("submission_open", sa.Boolean, nullable=False),
        sa.Column("run_events_seen", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
    )
    op.create_index("ix_jobs_status", "jobs", ["status"])
    op.create_index("ix_jobs_submission_open", "jobs", ["submission_open"])


def _create_events() -> None:
    _create(
        "events",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("level", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", _JSON),
        sa.UniqueConstraint("id", name="uq_events_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id_jobs"),
    )
    op.create_index("ix_events_job_id_seq", "events", ["job_id", "seq"])


def _create_checkpoints() -> None:
    _create(
        "checkpoints",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("metrics", _JSON, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.UniqueConstraint("id", name="uq_checkpoints_id"),
        sa.UniqueConstraint("job_id", "step", name="uq_checkpoints_job_id_step"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_checkpoints_job_id_jobs"),
    )
    op.create_index("ix_checkpoints_job_id_seq", "checkpoints", ["job_id", "seq"])


def _create_tuned_models() -> None:
    _create(
        "tuned_models",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.UniqueConstraint("name", name="uq_tuned_models_name"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_tuned_models_job_id_jobs"),
    )

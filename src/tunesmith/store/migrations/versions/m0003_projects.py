"""Projects and their keys, labels of jobs for filters, and what jobs were launched with."""

import json
import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Bring each table of the second schema to the third, and add the new ones."""
    for table in ("files", "uploads", "jobs", "tuned_models"):
        op.add_column(table, _project())
    for table in ("files", "jobs", "tuned_models"):
        op.create_index(f"ix_{table}_project_seq", table, ["project", "seq"])
    for column in ("purpose", "filename"):
        op.drop_index(f"ix_files_{column}_seq", "files")
        op.create_index(f"ix_files_project_{column}_seq", "files", ["project", column, "seq"])
    for column in ("tuning", "start_from"):
        op.add_column("jobs", sa.Column(column, sa.JSON))
    for table in ("tuned_models", "checkpoints"):
        op.add_column(table, _deleting())
    op.create_index("ix_checkpoints_model", "checkpoints", ["model"])
    _add_expiry()
    _add_job_labels()
    _add_projects()
    _add_api_keys()
    _add_permissions()
    _add_idempotency_keys()
    stopping = sa.Column("stopping", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("jobs", stopping)
    _add_webhook_endpoints()
    _add_webhook_deliveries()
    _add_signs_of_life()


def _add_expiry() -> None:
    op.add_column("files", sa.Column("expires_at", sa.BigInteger))
    op.add_column("uploads", sa.Column("expires_after", sa.BigInteger))
    for column in ("key", "expires_at"):
        op.create_index(f"ix_files_{column}", "files", [column])
    op.create_index("ix_files_project_bytes", "files", ["project", "bytes"])
    op.create_index("ix_uploads_project_status", "uploads", ["project", "status"])


def _project() -> sa.Column[str]:
    return sa.Column("project", sa.String, nullable=False, server_default="default")


def _deleting() -> sa.Column[bool]:
    return sa.Column("deleting", sa.Boolean, nullable=False, server_default=sa.false())


def _add_job_labels() -> None:
    labels = op.create_table(
        "job_labels",
        sa.Column("job_seq", _NUMBER, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        _project(),
        sa.PrimaryKeyConstraint("job_seq", "key", name="pk_job_labels"),
        sa.ForeignKeyConstraint(["job_seq"], ["jobs.seq"], name="fk_job_labels_job_seq_jobs"),
    )
    op.create_index(
        "ix_job_labels_project_key_value_job_seq",
        "job_labels",
        ["project", "key", "value", "job_seq"],
    )
    for seq, request in op.get_bind().execute(sa.text("SELECT seq, request FROM jobs")).all():
        asked = json.loads(request) if isinstance(request, str) else request
        rows = [
            {"job_seq": seq, "key": key, "value": value}
            for key, value in (asked.get("metadata") or {}).items()
        ]
        if rows:
            op.bulk_insert(labels, rows)


def _add_projects() -> None:
    projects = op.create_table(
        "projects",
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("max_bytes", sa.BigInteger),
        sa.Column("max_jobs", sa.BigInteger),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.PrimaryKeyConstraint("seq", name="pk_projects"),
        sa.UniqueConstraint("name", name="uq_projects_name"),
        sqlite_autoincrement=True,
    )
    op.bulk_insert(projects, [{"name": "default", "created_at": int(time.time())}])


def _add_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("prefix", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("seq", name="pk_api_keys"),
        sa.UniqueConstraint("id", name="uq_api_keys_id"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.name"], name="fk_api_keys_project_projects"
        ),
        sqlite_autoincrement=True,
    )


def _add_webhook_endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("event_types", sa.JSON, nullable=False),
        sa.Column("secret", sa.String, nullable=False),
        sa.Column("old_secret", sa.String),
        sa.Column("old_secret_until", sa.BigInteger),
        sa.Column("enabled", sa.Boolean, nullable=False),
        _project(),
        sa.PrimaryKeyConstraint("seq", name="pk_webhook_endpoints"),
        sa.UniqueConstraint("id", name="uq_webhook_endpoints_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhook_endpoints_project_seq", "webhook_endpoints", ["project", "seq"])


def _add_webhook_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("endpoint_id", sa.String, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("job_id", sa.String),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger),
        sa.Column("attempted_at", sa.BigInteger),
        sa.Column("status_code", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("delivered_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("seq", name="pk_webhook_deliveries"),
        sa.UniqueConstraint("id", name="uq_webhook_deliveries_id"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name="fk_webhook_deliveries_endpoint_id_webhook_endpoints",
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_webhook_deliveries_job_id_jobs"),
        sqlite_autoincrement=True,
    )
    for columns in (["created_at"], ["endpoint_id", "seq"], ["next_attempt_at"]):
        op.create_index(f"ix_webhook_deliveries_{'_'.join(columns)}", "webhook_deliveries", columns)


def _add_signs_of_life() -> None:
    op.create_table(
        "signs_of_life",
        sa.Column("process", sa.String, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("cluster_up", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("process", name="pk_signs_of_life"),
    )


def _add_permissions() -> None:
    op.create_table(
        "checkpoint_permissions",
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("project_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        _project(),
        sa.PrimaryKeyConstraint("seq", name="pk_checkpoint_permissions"),
        sa.UniqueConstraint("id", name="uq_checkpoint_permissions_id"),
        sa.UniqueConstraint(
            "model", "project_id", name="uq_checkpoint_permissions_model_project_id"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_checkpoint_permissions_model_seq", "checkpoint_permissions", ["model", "seq"]
    )


def _add_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("project", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("request", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("project", "key", name="pk_idempotency_keys"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_idempotency_keys_job_id_jobs"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])

"""Projects, labels of jobs that lists can be filtered by, and what jobs were launched with."""

import json

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
    op.add_column("jobs", sa.Column("tuning", sa.JSON))
    _add_job_labels()


def _project() -> sa.Column[str]:
    return sa.Column("project", sa.String, nullable=False, server_default="default")


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

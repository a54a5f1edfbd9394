"""Exports of tuned models."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "exports",
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("format", sa.String, nullable=False),
        sa.Column("quantization", sa.String),
        sa.Column("push_to", sa.String),
        sa.Column("push", sa.JSON(none_as_null=True)),
        sa.Column("progress", sa.Double, nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("files", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("parity", sa.JSON(none_as_null=True)),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("submission_open", sa.Boolean, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("project", sa.String, nullable=False, server_default="default"),
        sa.PrimaryKeyConstraint("seq", name="pk_exports"),
        sa.UniqueConstraint("id", name="uq_exports_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_exports_job_id_jobs"),
        sqlite_autoincrement=True,
    )
    for column in ("status", "model", "submission_open"):
        op.create_index(f"ix_exports_{column}", "exports", [column])

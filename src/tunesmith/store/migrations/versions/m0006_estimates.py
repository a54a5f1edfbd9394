"""Estimates of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "estimates",
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("job", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("measurement", sa.JSON(none_as_null=True)),
        sa.Column("factors", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("actual_step_seconds", sa.Double),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("project", sa.String, nullable=False, server_default="default"),
        sa.PrimaryKeyConstraint("seq", name="pk_estimates"),
        sa.UniqueConstraint("id", name="uq_estimates_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_estimates_status", "estimates", ["status"])
    op.create_index("ix_estimates_finished_at", "estimates", ["finished_at"])

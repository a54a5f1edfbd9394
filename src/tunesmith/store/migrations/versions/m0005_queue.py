"""The queue: why jobs wait, how long they ran, and the projects' shares."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what the queue goes by."""
    op.add_column("projects", sa.Column("share", sa.BigInteger))
    op.add_column("jobs", sa.Column("began_at", sa.BigInteger))
    seconds = sa.Column("run_seconds", sa.BigInteger, nullable=False, server_default="0")
    op.add_column("jobs", seconds)
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])
    op.create_table(
        "waits",
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("missing", sa.JSON, nullable=False),
        sa.Column("held_by", sa.JSON, nullable=False),
        sa.Column("expected_start", sa.BigInteger),
        sa.PrimaryKeyConstraint("job_id", name="pk_waits"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_waits_job_id_jobs"),
    )

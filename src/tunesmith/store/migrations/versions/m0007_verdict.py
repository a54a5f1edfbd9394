"""The verdict on jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; jobs that ended before have none."""
    op.add_column("jobs", sa.Column("verdict", sa.String))

"""What those who watch the service ask for: traces of jobs, and what the cluster has."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("jobs", sa.Column("traceparent", sa.String))
    for name in ("there", "held"):
        column = sa.Column(name, sa.JSON(none_as_null=True), nullable=False, server_default="{}")
        op.add_column("signs_of_life", column)

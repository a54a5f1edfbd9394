"""What Alembic runs: the migrations, inside the transaction that `schema.upgrade` has begun."""

from alembic import context

from tunesmith.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
)
context.run_migrations()

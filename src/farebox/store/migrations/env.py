"""Runs alembic on the connection that store/migrate.py hands over; there is no other way in."""

from alembic import context

from farebox.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # The caller's transaction holds all steps: a store is migrated whole or not at all.
    transactional_ddl=True,
)
context.run_migrations()

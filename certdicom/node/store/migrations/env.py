"""What alembic runs for each command; the connection is `store/schema.py`'s."""

from __future__ import annotations

from alembic import context

from certdicom.node.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="certdicom_schema",
    transaction_per_migration=False,
    transactional_ddl=True,
)
context.run_migrations()

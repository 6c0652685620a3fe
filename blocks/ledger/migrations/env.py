"""Alembic's environment: one transaction on the connection that `engine.prepare` hands over."""

from alembic import context

from blocks.ledger.tables.schema import VERSION_TABLE, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
    # SQLite can do it once BEGIN is really sent: a revision that fails leaves nothing behind.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

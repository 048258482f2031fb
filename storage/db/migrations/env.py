"""What Alembic runs: the migrations, on the connection that `upgrade` was given.

Refuses to open a connection of its own: the URL, the pragmas and the transaction are those of
`storage.db.engine`.
"""

from alembic import context

from storage.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

"""The workflow engine's own tables: DBOS makes them, in the database that holds the outbox.

Does: brings them to the schema of the installed DBOS as the role that owns them, and opens
connections on the terms that DBOS expects. They must share the outbox's database: a batch is taken
from the outbox and handed to the engine in one transaction. On PostgreSQL they have a schema of
their own. Refuses to migrate at a start: the service's role may not.
"""

import logging

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

from storage.db.postgres import IDLE_TIMEOUT_MS
from storage.db.sqlite import BUSY_TIMEOUT_MS

SCHEMA = "fengni_engine"
"""On PostgreSQL; a file has no schemas."""

_CONNECTIONS = 6


def prepare_workflows(url: str, service_role: str | None = None) -> None:
    """Bring the engine's tables to the newest schema; repeating changes nothing.

    Args:
        url: of the database, for the role that owns the tables.
        service_role: on PostgreSQL, the role that runs workflows.
    """
    from dbos import DBOS  # noqa: PLC0415  not every program that opens a database runs workflows

    logging.getLogger("dbos").setLevel(logging.ERROR)  # it tells each step of a migration
    DBOS.migrate(url, schema=SCHEMA, application_role=service_role)


def open_workflows(url: str) -> Engine:
    """Connections for the engine.

    On a file they wait for its writer as everybody does. A commit of theirs is not forced to the
    disk: what a power cut takes back is done again, and nothing that the outbox says is in it.

    Args:
        url: of the database, for the service's role.
    """
    if make_url(url).get_backend_name() == "sqlite":
        engine = create_engine(url, pool_size=_CONNECTIONS, hide_parameters=True)
        event.listen(engine, "connect", _prepare_file)
        return engine
    return create_engine(
        url,
        pool_size=_CONNECTIONS,
        max_overflow=_CONNECTIONS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 10,
            "application_name": "fengni engine",
            "options": f"-c idle_in_transaction_session_timeout={IDLE_TIMEOUT_MS}",
        },
    )


def _prepare_file(connection: object, _record: object) -> None:
    """As DBOS prepares its own connections, and WAL, which it does not set."""
    connection.isolation_level = "IMMEDIATE"  # type: ignore[attr-defined]
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"busy_timeout={BUSY_TIMEOUT_MS * 3}",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]

"""The tables of keys, in a database that holds nothing else, and how they are made.

Does: makes them, also in a key file of an earlier version, whose keys stay as they are. Refuses any
change of what says that a key was destroyed, by triggers also to the tables' owner.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    LargeBinary,
    MetaData,
    String,
    Table,
    inspect,
    text,
)

from storage.db.engine import Database
from storage.db.migrations.triggers import append_only
from storage.db.tables import Moment

TURN = "keys"
"""The turn of everybody who writes keys."""

metadata = MetaData()
_ORIGIN = String(255)
_KEK = String(64)

text_keys = Table(
    "text_keys",  # of the statements' texts; the first two columns and `key` since version 0.1
    metadata,
    Column("origin", _ORIGIN, primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),
    Column("kek", _KEK, nullable=False, server_default=text("''")),
)

content_keys = Table(
    "content_keys",
    metadata,
    Column("origin", _ORIGIN, primary_key=True),
    Column("name", String(96), primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("kek", _KEK, nullable=False, server_default=text("''")),
)

destroyed_keys = Table(
    "destroyed_keys",
    metadata,
    Column("origin", _ORIGIN, primary_key=True),
    Column("name", String(128), primary_key=True),  # `text 7`, or `content` and its name
    Column("destroyed_at", Moment, nullable=False),
    Column("by_whom", String(128), nullable=False),
    Column("reason", String(255), nullable=False),
)


def prepare(db: Database, *, service_role: str | None = None) -> None:
    """Make the tables where they are not; repeating changes nothing.

    Args:
        db: with the role that is to own the tables.
        service_role: the role that the service uses, if it is another one.

    Raises:
        Unavailable: the database does not answer.
    """
    with db.write(TURN) as connection:
        there = inspect(connection)
        known = set(there.get_table_names())
        columns = (
            {one["name"] for one in there.get_columns(text_keys.name)}
            if text_keys.name in known
            else {"kek"}
        )
        if "kek" not in columns:  # of version 0.1: nothing wrapped these keys
            connection.exec_driver_sql(
                "ALTER TABLE text_keys ADD COLUMN kek VARCHAR(64) NOT NULL DEFAULT ''"
            )
        metadata.create_all(connection)
        if destroyed_keys.name not in known:
            for order in append_only(connection.dialect.name, destroyed_keys.name):
                connection.exec_driver_sql(order)
        if service_role is not None:
            to = connection.dialect.identifier_preparer.quote(service_role)
            for order in (
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON text_keys, content_keys TO {to}",
                f"GRANT SELECT, INSERT ON destroyed_keys TO {to}",
            ):
                connection.exec_driver_sql(order)

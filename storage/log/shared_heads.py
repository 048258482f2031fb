"""The head of a log that several nodes may lead, in a database on another server.

A file on one node's disk would be lost with the node, and a row beside the leaves would be put back
with them. So the heads have a database of their own, on a server that is not the index's: neither
a dump nor a restored disk of one carries the other.

    log_heads   origin                      size    root
                log.example/demo-2026       70000   32 bytes

Does: reads, and swaps in one statement that compares what was there. Refuses, by triggers also to
the tables' owner: a size that does not grow, and deletion. Who may swap is decided by who leads
the log (`storage.log.leading`); a leader that was deposed meets another head and is refused.
"""

import contextlib
from collections.abc import Generator

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from storage.db.engine import Database
from storage.errors import AlreadyExists, HeadConflict, IntegrityAlarm, NotFound, Unavailable
from storage.log.heads import Head

_ROOT_BYTES = 32
_TURN = "head"
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS log_heads (
    origin varchar(255) PRIMARY KEY,
    size bigint NOT NULL CHECK (size >= 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32))""",
    """CREATE OR REPLACE FUNCTION refuse_return() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.size > OLD.size AND NEW.origin = OLD.origin THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a head only grows' USING ERRCODE = 'integrity_constraint_violation';
END
$$""",
    """CREATE OR REPLACE TRIGGER log_heads_grow BEFORE UPDATE OR DELETE ON log_heads
FOR EACH ROW EXECUTE FUNCTION refuse_return()""",
    """CREATE OR REPLACE TRIGGER log_heads_stay BEFORE TRUNCATE ON log_heads
FOR EACH STATEMENT EXECUTE FUNCTION refuse_return()""",
    "ALTER TABLE log_heads ENABLE ALWAYS TRIGGER log_heads_grow",
    "ALTER TABLE log_heads ENABLE ALWAYS TRIGGER log_heads_stay",
)
_SERVER = text("SELECT system_identifier FROM pg_control_system()")
_READ = text("SELECT size, root FROM log_heads WHERE origin = :origin")
_MAKE = text("INSERT INTO log_heads (origin, size, root) VALUES (:origin, :size, :root)")
_SWAP = text(
    "UPDATE log_heads SET size = :size, root = :root"
    " WHERE origin = :origin AND size = :old_size AND root = :old_root"
)


def prepare_heads(db: Database, *, service_role: str | None = None) -> None:
    """Make the table of heads in a database on a server of its own; repeating changes nothing.

    Args:
        db: with the role that is to own the table.
        service_role: the role that the service uses, if it is another one.

    Raises:
        ValueError: it is a file.
        Unavailable: it does not answer.
    """
    if db.path is not None:
        raise ValueError("shared heads need a database server")
    with db.write(_TURN) as connection:
        for order in _SCHEMA:
            connection.execute(text(order))
        if service_role is not None:
            to = connection.dialect.identifier_preparer.quote(service_role)
            connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE ON log_heads TO {to}")


class SharedHead:
    """One log's head in a database that many nodes reach; see `HeadStore` for the promises."""

    def __init__(self, db: Database, origin: str) -> None:
        """Name the head; nothing is asked before it is needed.

        Args:
            db: of heads, made by `prepare_heads`.
            origin: of the log.
        """
        self._db = db
        self._origin = origin

    def make(self, head: Head) -> None:
        """Keep the head of a new log; see `HeadStore`."""
        values = {"origin": self._origin, "size": head.size, "root": head.root}
        try:
            with self._db.write(_TURN) as connection:
                connection.execute(_MAKE, values)
        except IntegrityError as error:
            raise AlreadyExists("this log has a head already") from error

    def read(self) -> Head:
        """What was swapped in last; see `HeadStore`."""
        with self._db.read() as connection:
            row = connection.execute(_READ, {"origin": self._origin}).first()
        if row is None:
            raise NotFound("this log has no head")
        if len(row.root) != _ROOT_BYTES:
            raise IntegrityAlarm("the log's head is damaged")
        return Head(size=row.size, root=bytes(row.root))

    @contextlib.contextmanager
    def hold(self) -> Generator[None, None, None]:
        """Nothing is locked: whoever leads the log swaps, and each swap compares."""
        yield

    def swap(self, expected: Head, new: Head) -> None:
        """Put `new` in the place of `expected`; see `HeadStore`."""
        if new.size <= expected.size:
            raise ValueError("a head only grows")
        values = {
            "origin": self._origin,
            "size": new.size,
            "root": new.root,
            "old_size": expected.size,
            "old_root": expected.root,
        }
        with self._db.write(_TURN) as connection:
            if connection.execute(_SWAP, values).rowcount != 1:
                raise HeadConflict("the log's head is not the one that this process left there")

    def require_apart(self, db: Database) -> None:
        """Refuse a server that also holds the log's database; see `HeadStore`."""
        if db.path is None and _server(db) == _server(self._db):
            raise Unavailable("the heads lie on the database's server: give them one of their own")


def _server(db: Database) -> object:
    with db.read() as connection:
        return _identifier(connection)


def _identifier(connection: Connection) -> object:
    return connection.execute(_SERVER).scalar_one()

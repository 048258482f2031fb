"""The two key stores: a file of one machine, and a database on another server for many nodes.

Does: opens what was made, and never makes it by opening. Refuses a key database on the server that
holds the log's database: one restored disk would put back what was destroyed.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from storage.db.engine import Database
from storage.durable import keep_private
from storage.errors import AlreadyExists, NotFound, Unavailable
from storage.keys import KeyStore
from storage.keys.tables import prepare
from storage.keys.wrapping import KeyWrapper

_SCRUB_S = 10.0
_SERVER = text("SELECT system_identifier FROM pg_control_system()")


class FileKeys(KeyStore):
    """Keys in a SQLite file that only its owner reads; deleted ones are overwritten."""

    def __init__(self, path: Path, wrapper: KeyWrapper | None = None) -> None:
        """Open an existing key file; one of an earlier version is brought to this one.

        Args:
            path: the file.
            wrapper: see `KeyStore`.

        Raises:
            NotFound: it is not there; making a new one would hide that the old one was lost.
            Unavailable: it cannot be opened.
        """
        if not path.is_file():
            raise NotFound("the key file of the texts is not there")
        keep_private(path)
        self.path = path
        super().__init__(_database(path), wrapper)
        prepare(self.db)

    @classmethod
    def create(cls, path: Path, wrapper: KeyWrapper | None = None) -> "FileKeys":
        """Make an empty key file in an existing folder.

        Raises:
            AlreadyExists: there is one.
            Unavailable: it cannot be made.
        """
        if path.exists():
            raise AlreadyExists("there is a key file already")
        keep_private(path)
        return cls(path, wrapper)

    def scrub(self) -> None:
        """Empty the write-ahead log: it holds pages as they were before they were overwritten.

        Raises:
            Unavailable: somebody reads for too long; do it again.
        """
        deadline = time.monotonic() + _SCRUB_S
        while True:
            try:
                with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
                    connection.execute("PRAGMA busy_timeout=10000")
                    done = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error as error:
                raise Unavailable("the key file cannot be cleaned") from error
            if not done[0]:
                return
            if time.monotonic() > deadline:
                raise Unavailable("the key file's log cannot be emptied: somebody reads it")
            time.sleep(0.05)


class SharedKeys(KeyStore):
    """Keys in a database on a server, which `prepare` made; see the ADR for what a server keeps."""

    def __init__(self, db: Database, wrapper: KeyWrapper) -> None:
        """Open it; keys on a server are always wrapped, for its dead rows and its log outlive them.

        Args:
            db: of keys.
            wrapper: see `KeyStore`.
        """
        super().__init__(db, wrapper)

    def require_apart(self, db: Database) -> None:
        """Refuse a server that also holds the log's database.

        Raises:
            Unavailable: it does, or one of them does not answer.
        """
        if db.path is None and _server(db) == _server(self.db):
            raise Unavailable("the keys lie on the database's server: give them one of their own")


def _database(path: Path) -> Database:
    return Database(f"sqlite:///{path.absolute()}", scrubbed=True)


def _server(db: Database) -> object:
    with db.read() as connection:
        return connection.execute(_SERVER).scalar_one()

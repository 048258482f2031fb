"""A log to test with: real keys, real signatures, real files in a folder of the test's own."""

import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from psycopg.errors import ObjectInUse

from evidence.keys import P256Signer
from evidence.leaf import leaf_of
from evidence.merkle import hash_leaf, verify_inclusion
from evidence.statement import About, make_statement, open_statement, sign_statement
from evidence.tlog.checkpoint import LogSigner, open_checkpoint
from evidence.tlog.note import VerifierKey
from storage.db.engine import Database, migrate
from storage.db.migrations.triggers import trigger_names
from storage.db.tables import EVIDENCE
from storage.log import (
    CommittedHead,
    Log,
    LogStores,
    PendingStatement,
    Receipt,
    Submission,
    WitnessAnswer,
    create_log,
)
from storage.log.findings import Finding
from storage.log.fsck import fsck
from storage.log.heads import FileHead
from storage.log.opened import OpenLog as AnyLog
from storage.log.texts import TextKeys
from storage.tiles import LocalTiles
from tests.postgres import PostgresServer

ORIGIN = "log.example/demo-2026"
LOG_ID = "demo-2026"
ORGAN = "demo-organ"
RECEIVED = datetime(2026, 11, 23, 1, 4, 6, 123000, tzinfo=UTC)
_TRIGGERS = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
_SPOKEN_LIKE_SQLITE = """
CREATE DOMAIN blob AS bytea;
CREATE FUNCTION zeroblob(integer) RETURNS bytea LANGUAGE sql
AS $$ SELECT decode(repeat('00', $1), 'hex') $$;
CREATE FUNCTION replace(bytea, text, text) RETURNS bytea LANGUAGE sql
AS $$ SELECT convert_to(replace(convert_from($1, 'LATIN1'), $2, $3), 'LATIN1') $$;
"""
"""So that one line of a test spoils a row on both databases."""
SLOW_PERIOD_S = 3600.0
"""So that nothing is published but what a test publishes."""


_servers: list[PostgresServer] = []
"""The last one keeps the databases of the places that are made; without any they are files."""


@contextmanager
def on_server(server: PostgresServer) -> Generator[None]:
    """Let the places that are made in this block keep their database on a server."""
    _servers.append(server)
    made = set(server.made)
    try:
        yield
    finally:
        _servers.pop()
        for name in server.made - made:
            server.drop(name)


def now() -> datetime:
    """The clock of these tests."""
    return datetime.now(UTC)


@dataclass
class Place:
    """The folders and keys of one log."""

    folder: Path
    signer: LogSigner = field(
        default_factory=lambda: LogSigner(
            ORIGIN, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
        )
    )

    server: PostgresServer | None = field(
        default_factory=lambda: _servers[-1] if _servers else None
    )
    name: str = ""

    @property
    def url(self) -> str:
        """Return the database's URL."""
        if self.server is not None:
            return self.server.url(self.name)
        return f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        """Return the database's file."""
        return self.folder / "db" / "fengni.db"

    @property
    def head(self) -> Path:
        """Return the head's file."""
        return self.folder / "heads" / "demo.head"

    def make(self) -> "Place":
        """Make the stores and an empty log in them."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "db").mkdir()
        (self.folder / "keys").mkdir()
        if self.server is None:
            migrate(self.url)
        else:
            self.name = self.server.copy()
        TextKeys.create(self.folder / "keys" / "texts.db").close()
        LocalTiles.create(self.folder / "tiles")
        stores = self.stores()
        create_log(stores, organ=ORGAN, signer=self.signer, clock=now)
        close(stores)
        return self

    def stores(self) -> LogStores:
        """Open every store; the caller closes them with `close`."""
        return LogStores(
            db=Database(self.url),
            log_id=LOG_ID,
            origin=ORIGIN,
            tiles=LocalTiles(self.folder / "tiles"),
            heads=FileHead(self.head),
            texts=TextKeys(self.folder / "keys" / "texts.db"),
        )

    def open(
        self,
        *,
        period_s: float = SLOW_PERIOD_S,
        witnessed: Iterable[WitnessAnswer] = (),
        confirmed: bool = True,
        published: Callable[[CommittedHead], None] = lambda _head: None,
    ) -> "OpenLog":
        """Open the log; see `Log.open`."""
        stores = self.stores()
        try:
            log = Log.open(
                stores,
                signer=self.signer,
                clock=now,
                witnessed=witnessed,
                confirmed=confirmed,
                published=published,
                period_s=period_s,
            )
        except BaseException:
            close(stores)
            raise
        return OpenLog(log, stores)

    def fsck(self, witness_keys: Sequence[VerifierKey] = ()) -> list[Finding]:
        """Check everything."""
        stores = self.stores()
        try:
            return fsck(stores, self.signer.verifier_keys, witness_keys)
        finally:
            close(stores)

    def copy(self, folder: Path, *, live: Log | None = None) -> "Place":
        """What a power cut at this moment would leave, in another folder.

        Args:
            folder: of the copy.
            live: the log that is open here, if one is; whoever submitted to it has his answers.
        """
        # A power cut takes all files at one moment, a copy takes them one after the other: taken
        # while the publisher replaces partial tiles it would hold what no power cut leaves, or
        # meet a file that has just gone. With its turn held and every submission answered, no
        # thread writes. A kill in the middle of a publication has tests of its own.
        with nullcontext() if live is None else live._publisher._turn:
            shutil.copytree(self.folder, folder, copy_function=shutil.copy)
            name = "" if self.server is None else self._copied(self.server)
        return replace(self, folder=folder, name=name)

    def put_back_database(self, older: "Place") -> None:
        """Restore an older copy's database, as somebody would who means well."""
        if self.server is None:
            shutil.rmtree(self.folder / "db")
            shutil.copytree(older.folder / "db", self.folder / "db", copy_function=shutil.copy)
        else:
            self.name = older._copied(self.server)

    def _copied(self, server: PostgresServer) -> str:
        try:
            return server.copy(self.name)
        except ObjectInUse:
            copied = server.snapshot(self.name)
        server.execute("UPDATE leaders SET until = 0", copied)  # a power cut takes the leader along
        return copied

    def edit(self, sql: str, *values: object) -> None:
        """Change the database behind the log's back, triggers gone."""
        if self.server is not None:
            self._edit_on_server(self.server, sql, values)
            return
        with closing(sqlite3.connect(self.database)) as connection, connection:
            triggers = connection.execute(_TRIGGERS).fetchall()
            for name, _sql in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(sql, values)
            for _name, trigger in triggers:
                connection.execute(trigger)

    def _edit_on_server(self, server: PostgresServer, sql: str, values: tuple[object, ...]) -> None:
        order = re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", sql.replace("?", "%s"))
        with server.connect(self.name) as connection, connection.transaction():
            for table in EVIDENCE:
                connection.execute(f"ALTER TABLE {table.name} DISABLE TRIGGER USER".encode())
            connection.execute(_SPOKEN_LIKE_SQLITE.encode())
            connection.execute(order.encode(), values)
            connection.execute(
                b"DROP DOMAIN blob; DROP FUNCTION zeroblob, replace(bytea, text, text)"
            )
            for table in EVIDENCE:
                for name in trigger_names("postgresql", table.name):
                    on = f"ALTER TABLE {table.name} ENABLE ALWAYS TRIGGER {name}"
                    connection.execute(on.encode())


class OpenLog:
    """An open log that closes its stores as well."""

    def __init__(self, log: Log, stores: LogStores) -> None:
        self.log = log
        self.stores = stores

    def __enter__(self) -> Log:
        return self.log

    def __exit__(self, *_error: object) -> None:
        try:
            self.log.close()
        finally:
            close(self.stores)


def close(stores: LogStores) -> None:
    """Close what `Place.stores` opened."""
    stores.db.close()
    stores.texts.close()


def capture(
    signer: P256Signer, *, about: str | None = None, previous: str | None = None
) -> PendingStatement:
    """A signed, opened capture."""
    raw = make_statement(
        "capture",
        audience="demo",
        organ=ORGAN,
        signer=signer.key_id,
        salt=secrets.token_hex(16),
        made_at=RECEIVED,
        body={
            "content": {
                "sha256": secrets.token_hex(32),
                "size_bytes": 5,
                "media_type": "image/jpeg",
            },
            "mode": "attended",
            "captured_at": "2026-11-23T01:04:05.678Z",
        },
        about=None if about is None else About(statement=about),
        previous=previous,
    )
    return pending(raw, signer)


def pending(raw: bytes, signer: P256Signer) -> PendingStatement:
    """Canonical bytes, signed (each time anew) and opened."""
    signed = sign_statement(raw, signer)
    return PendingStatement(
        signed=signed,
        statement=open_statement(raw, signed.signature, signer.public_key),
        public_key=signer.public_key,
        received_at=RECEIVED,
    )


def captures(signer: P256Signer, count: int) -> list[PendingStatement]:
    """Return some new captures."""
    return [capture(signer) for _ in range(count)]


def append(log: AnyLog, items: Sequence[PendingStatement]) -> list[Receipt]:
    """Log items; every one must be admitted."""
    outcomes = log.submit(Submission(items=tuple(items))).result(timeout=60)
    refused = [outcome for outcome in outcomes if not isinstance(outcome, Receipt)]
    assert refused == []
    return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]


def check_receipts(
    place: Place, items: Iterable[PendingStatement], receipts: Iterable[Receipt]
) -> None:
    """Each receipt proves its item under the log's keys."""
    for item, receipt in zip(items, receipts, strict=True):
        leaf = leaf_of(item.statement.id, item.signed.signature, item.public_key)
        signed = open_checkpoint(
            receipt.checkpoint, place.signer.verifier_keys, require=frozenset({0x01, 0x06})
        ).checkpoint
        assert (receipt.statement_id, receipt.size) == (item.statement.id, signed.size)
        verify_inclusion(hash_leaf(leaf), receipt.index, signed.size, receipt.hashes, signed.root)

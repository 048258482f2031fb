"""A log to test with: real keys, real signatures, real files in a folder of the test's own."""

import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.keys import P256Signer
from evidence.leaf import leaf_of
from evidence.merkle import hash_leaf, verify_inclusion
from evidence.statement import About, make_statement, open_statement, sign_statement
from evidence.tlog.checkpoint import LogSigner, open_checkpoint
from evidence.tlog.note import VerifierKey
from storage.db.engine import Database, migrate
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
from storage.log.texts import TextKeys
from storage.tiles import LocalTiles

ORIGIN = "log.example/demo-2026"
LOG_ID = "demo-2026"
ORGAN = "demo-organ"
RECEIVED = datetime(2026, 11, 23, 1, 4, 6, 123000, tzinfo=UTC)
_TRIGGERS = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
SLOW_PERIOD_S = 3600.0
"""So that nothing is published but what a test publishes."""


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

    @property
    def url(self) -> str:
        """Return the database's URL."""
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
        migrate(self.url)
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
        return replace(self, folder=folder)

    def edit(self, sql: str, *values: object) -> None:
        """Change the database behind the log's back, triggers gone."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            triggers = connection.execute(_TRIGGERS).fetchall()
            for name, _sql in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(sql, values)
            for _name, trigger in triggers:
                connection.execute(trigger)


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


def append(log: Log, items: Sequence[PendingStatement]) -> list[Receipt]:
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

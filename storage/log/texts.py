"""Encrypted texts beside the log, each under a key of its own that can be destroyed alone.

A leaf holds no text, so the text lies in a bundle at the same place: `texts/x001/234` holds the
256 texts under `tile/entries/x001/234`, in the same framing. One item is

    nonce (12 bytes) ‖ AES-256-GCM of ( received_at_ms (8) ‖ committed_size (8) ‖ statement )

with `fengni-text/v1 <origin> <index>` as associated data. The nonce is the beginning of the
statement's id: the same text gives the same bytes in every attempt to publish it, and another
text under the same key could not meet the same nonce.

Does: seals and opens items; makes and keeps keys. Refuses: to make a second key for an index,
and to start with a key file that is not there. Keys lie in a file of their own that only its owner
may read, so that a copy of the database or of the tiles does not carry them along.

Source: docs/adr/0005-text-keys.md.
"""

import secrets
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from evidence.tlog.tiles import TileName
from storage.durable import keep_private
from storage.errors import AlreadyExists, IntegrityAlarm, NotFound, Unavailable

KEY_BYTES = 32
_NONCE_BYTES = 12
_NUMBER_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_SCHEMA = """
CREATE TABLE text_keys (
    origin TEXT NOT NULL, idx INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (origin, idx)
) WITHOUT ROWID
"""
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "busy_timeout=10000")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedText:
    """What a text item holds.

    Attributes:
        statement: canonical bytes.
        received_at: when the server received it, UTC, whole milliseconds.
        committed_size: size of the checkpoint that was signed with it.
    """

    statement: bytes
    received_at: datetime
    committed_size: int


class TextKeys:
    """The key file: one random key for each index of each log. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open an existing key file.

        Raises:
            NotFound: it is not there; making a new one would hide that the old one was lost.
            Unavailable: it cannot be opened.
        """
        if not path.is_file():
            raise NotFound("the key file of the texts is not there")
        keep_private(path)
        self.path = path
        self._turn = threading.Lock()
        self._connection = _open(path)

    @classmethod
    def create(cls, path: Path) -> "TextKeys":
        """Make an empty key file in an existing folder.

        Raises:
            AlreadyExists: there is one.
            Unavailable: it cannot be made.
        """
        if path.exists():
            raise AlreadyExists("there is a key file already")
        keep_private(path)
        connection = _open(path)
        try:
            connection.execute(_SCHEMA)
        finally:
            connection.close()
        return cls(path)

    def provide(self, origin: str, first: int, count: int) -> list[bytes]:
        """The keys of `count` indices from `first` on; missing ones are made, durable on return.

        Raises:
            Unavailable: the file cannot be read or written.
        """
        fresh = ((origin, first + n, secrets.token_bytes(KEY_BYTES)) for n in range(count))
        with self._turn, _sqlite_errors():
            found = self._read(origin, first, count)
            if len(found) < count:
                self._connection.execute("BEGIN IMMEDIATE")
                with self._connection:
                    self._connection.executemany(
                        "INSERT OR IGNORE INTO text_keys (origin, idx, key) VALUES (?, ?, ?)", fresh
                    )
                found = self._read(origin, first, count)
        return [found[first + n] for n in range(count)]

    def find(self, origin: str, first: int, count: int) -> dict[int, bytes]:
        """Those of these keys that are there, by index; makes none.

        Raises:
            Unavailable: the file cannot be read.
        """
        with self._turn, _sqlite_errors():
            return self._read(origin, first, count)

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._connection.close()

    def _read(self, origin: str, first: int, count: int) -> dict[int, bytes]:
        query = "SELECT idx, key FROM text_keys WHERE origin = ? AND idx >= ? AND idx < ?"
        return dict(self._connection.execute(query, (origin, first, first + count)).fetchall())


def texts_name(index: int) -> str:
    """Name of the full text bundle with this number, such as `texts/x001/234`."""
    return "texts/" + TileName(level=None, index=index).path().removeprefix("tile/entries/")


def seal_text(key: bytes, origin: str, index: int, text: LoggedText) -> bytes:
    """Encrypt one text as an item of a bundle; the same input gives the same bytes.

    Args:
        key: 32 bytes, of this index alone.
        origin: of the log.
        index: zero-based index of the leaf.
        text: at most 16 KiB of statement.
    """
    nonce = sha256(text.statement).digest()[:_NONCE_BYTES]
    received_ms = (text.received_at - _EPOCH) // _MS
    numbers = received_ms.to_bytes(_NUMBER_BYTES) + text.committed_size.to_bytes(_NUMBER_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, numbers + text.statement, _place(origin, index))


def open_text(key: bytes, origin: str, index: int, item: bytes) -> LoggedText:
    """Decrypt one item.

    Raises:
        IntegrityAlarm: other bytes, another key, another place, or a nonce that is not the
            statement's.
    """
    nonce, sealed = item[:_NONCE_BYTES], item[_NONCE_BYTES:]
    try:
        plain = AESGCM(key).decrypt(nonce, sealed, _place(origin, index))
    except (InvalidTag, ValueError) as error:
        raise IntegrityAlarm("an encrypted text does not open with its key") from error
    statement = plain[2 * _NUMBER_BYTES :]
    if sha256(statement).digest()[:_NONCE_BYTES] != nonce:
        raise IntegrityAlarm("an encrypted text is not the one that its nonce names")
    return LoggedText(
        statement=statement,
        received_at=_EPOCH + int.from_bytes(plain[:_NUMBER_BYTES]) * _MS,
        committed_size=int.from_bytes(plain[_NUMBER_BYTES : 2 * _NUMBER_BYTES]),
    )


def _place(origin: str, index: int) -> bytes:
    return f"fengni-text/v1 {origin} {index}".encode()


def _open(path: Path) -> sqlite3.Connection:
    with _sqlite_errors():
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection


@contextmanager
def _sqlite_errors() -> Generator[None, None, None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable("the key file of the texts cannot be read or written") from error

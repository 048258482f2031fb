"""A backup of the keys: one encrypted file, and what putting it back must not do.

    fengni-keys-backup/1 ⏎ ‖ salt (32) ‖ frames
    frame = length of the rest (4) ‖ AES-256-GCM( rows, nonce: number of the frame (12) )

The frame's key is HKDF-SHA-256 of the backup key with the salt, so each file has its own.
Associated data are the head, the salt, the number and whether it is the last frame: frames cannot
be dropped, swapped or cut off. Rows are JSON lines, keys as the store keeps them: wrapped. So who
has the file and its key has no key yet, and when a key-encryption key is destroyed what it wraps in
every older backup goes with it.

Does: writes and reads such files a piece at a time. Putting back merges: first everything that was
destroyed, by the store's own word or the file's, then those keys that the store lacks and nobody
destroyed. Refuses to overwrite a key that is there.
"""

import base64
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, BinaryIO, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import delete, select

from storage.errors import IntegrityAlarm
from storage.keys import Destroyed, KeyStore, insert_new
from storage.keys.tables import TURN, content_keys, destroyed_keys, text_keys
from storage.keys.wrapping import KEY_BYTES

T = TypeVar("T")
HEAD = b"fengni-keys-backup/1\n"
_SALT_BYTES = 32
_TAG_BYTES = 16
_LENGTH_BYTES = 4
_ROWS = 2000
_MOST_FRAME_BYTES = 4 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TABLES = {table.name: table for table in (destroyed_keys, text_keys, content_keys)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What putting a backup back did.

    Attributes:
        keys: how many keys the store lacked and has again.
        destroyed: how many notes of destruction it learnt.
        refused: how many keys of the file stayed away because they were destroyed.
    """

    keys: int
    destroyed: int
    refused: int


def write_backup(store: KeyStore, backup_key: bytes, out: BinaryIO) -> int:
    """Write every row; returns how many. Keys that are made meanwhile may or may not be among them.

    Args:
        store: of the keys.
        backup_key: 32 bytes, kept apart from the file.
        out: new and empty.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    out.write(HEAD + salt)
    sealer = _sealer(backup_key, salt)
    count = 0
    number = 0
    for number, rows in enumerate(_pieces(_lines(store)), start=1):
        count += len(rows)
        _write_frame(out, sealer, salt, number, b"\n".join(rows), last=False)
    _write_frame(out, sealer, salt, number + 1, b"", last=True)
    return count


def read_backup(backup_key: bytes, file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The rows of a backup, in its order; the file must be whole before the last one is given.

    Raises:
        IntegrityAlarm: it is no backup, was changed, cut off or lengthened, or has another key.
    """
    if file.read(len(HEAD)) != HEAD:
        raise IntegrityAlarm("the file is no backup of keys")
    salt = file.read(_SALT_BYTES)
    sealer = _sealer(backup_key, salt)
    number = 0
    while True:
        number += 1
        length = int.from_bytes(file.read(_LENGTH_BYTES))
        if not _TAG_BYTES <= length <= _MOST_FRAME_BYTES:
            raise IntegrityAlarm("the backup of keys is cut off or damaged")
        sealed = file.read(length)
        last = length == _TAG_BYTES
        try:
            rows = sealer.decrypt(_nonce(number), sealed, _bound(salt, number, last=last))
        except (InvalidTag, ValueError) as error:
            raise IntegrityAlarm("the backup of keys was changed, or has another key") from error
        if last:
            break
        yield from (json.loads(row) for row in rows.split(b"\n"))
    if file.read(1):
        raise IntegrityAlarm("something was added to the backup of keys")


def restore_backup(
    store: KeyStore, backup_key: bytes, file: BinaryIO, destroyed: Iterable[Destroyed] = ()
) -> Restored:
    """Put a backup back into a store that is there; may be repeated.

    1. The whole file is read once: a damaged one changes nothing.
    2. What was destroyed by anybody's word is noted, and its keys go.
    3. Keys that the store lacks, and that nobody destroyed, come back.

    Args:
        store: of the keys, made and perhaps empty.
        backup_key: 32 bytes.
        file: seekable, at its start.
        destroyed: what others know to have been destroyed, such as the log.

    Raises:
        IntegrityAlarm: see `read_backup`.
    """
    start = file.tell()
    for _ in read_backup(backup_key, file):  # 1
        pass
    before = store.count()
    file.seek(start)
    noted = [row for row in read_backup(backup_key, file) if row["table"] == destroyed_keys.name]
    told = [_note(one) for one in destroyed]
    with store.db.write(TURN) as connection:  # 2
        insert_new(connection, destroyed_keys, [_columns(row) for row in noted] + told)
    gone = {(one.origin, one.name) for one in store.destroyed()}
    _drop(store, gone)
    file.seek(start)
    refused = 0
    keys = (row for row in read_backup(backup_key, file) if row["table"] != destroyed_keys.name)
    for rows in _pieces(keys):  # 3
        alive = [row for row in rows if (row["origin"], _name(row)) not in gone]
        refused += len(rows) - len(alive)
        with store.db.write(TURN) as connection:
            for table in (text_keys, content_keys):
                mine = [_columns(row) for row in alive if row["table"] == table.name]
                insert_new(connection, table, mine)
    store.scrub()
    after = store.count()
    return Restored(
        keys=sum(after.by_kek.values()) - sum(before.by_kek.values()),
        destroyed=after.destroyed - before.destroyed,
        refused=refused,
    )


def _drop(store: KeyStore, gone: set[tuple[str, str]]) -> None:
    """Keys that the store still has of what others know to be destroyed."""
    with store.db.write(TURN) as connection:
        for origin, name in gone:
            kind, _, rest = name.partition(" ")
            table, column = (
                (text_keys, text_keys.c.idx)
                if kind == "text"
                else (content_keys, content_keys.c.name)
            )
            value = int(rest) if kind == "text" else rest
            mine = (table.c.origin == origin, column == value)
            if connection.execute(select(table.c.origin).where(*mine)).first() is not None:
                connection.execute(delete(table).where(*mine))


def _lines(store: KeyStore) -> Iterator[bytes]:
    for name, table in _TABLES.items():
        for row in store.rows(table):
            yield json.dumps(
                {"table": name, **_plain(dict(zip(table.columns.keys(), row, strict=True)))}
            ).encode()


def _plain(row: dict[str, object]) -> dict[str, object]:
    if "key" in row:
        row["key"] = base64.b64encode(bytes(row["key"])).decode()  # type: ignore[arg-type]
    at = row.get("destroyed_at")
    if isinstance(at, datetime):
        row["destroyed_at"] = (at - _EPOCH) // timedelta(milliseconds=1)
    return row


def _columns(row: dict[str, Any]) -> dict[str, object]:
    values = {name: value for name, value in row.items() if name != "table"}
    if "key" in values:
        values["key"] = base64.b64decode(values["key"])
    if "destroyed_at" in values:
        values["destroyed_at"] = _EPOCH + values["destroyed_at"] * timedelta(milliseconds=1)
    return values


def _note(one: Destroyed) -> dict[str, object]:
    return {
        "origin": one.origin,
        "name": one.name,
        "destroyed_at": one.at,
        "by_whom": one.by,
        "reason": one.reason,
    }


def _name(row: dict[str, Any]) -> str:
    return f"text {row['idx']}" if row["table"] == text_keys.name else f"content {row['name']}"


def _pieces(rows: Iterable[T]) -> Iterator[list[T]]:
    left = iter(rows)
    while piece := list(islice(left, _ROWS)):
        yield piece


def _sealer(backup_key: bytes, salt: bytes) -> AESGCM:
    kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=HEAD)
    return AESGCM(kdf.derive(backup_key))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12)


def _bound(salt: bytes, number: int, *, last: bool) -> bytes:
    return HEAD + salt + number.to_bytes(8) + bytes([last])


def _write_frame(
    out: BinaryIO, sealer: AESGCM, salt: bytes, number: int, rows: bytes, *, last: bool
) -> None:
    sealed = sealer.encrypt(_nonce(number), rows, _bound(salt, number, last=last))
    out.write(len(sealed).to_bytes(_LENGTH_BYTES) + sealed)

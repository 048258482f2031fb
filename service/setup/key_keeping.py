"""Looking after the key store: backup, putting it back, a new key-encryption key, looking it over.

Does: each beside a server that runs, but for putting back, which wants it stopped. Asks the log
what was disposed of before a key comes back, so that a backup older than a destruction undoes
nothing. Refuses to overwrite a backup, and to read a backup key that others may read.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evidence.statement import Statement, parse_statement
from service.data_keys import open_keys
from service.deployment_file import database_url, read_deployment
from service.private_files import create_private
from service.settings import Settings
from service.setup.databases import SetupRefused
from storage import records
from storage.db.engine import Database
from storage.keys import Counted, Destroyed, KeyStore, content_key_name
from storage.keys.backup import Restored, restore_backup, write_backup
from storage.keys.wrapping import KEY_BYTES

SEALED_PARTS = ("", "/facts")
"""What of a capture is sealed: its content, and what an inspection read in it."""

_PIECE_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedOver:
    """What the key store holds.

    Attributes:
        counted: how many keys.
        current: id of the present key-encryption key; empty where nothing wraps.
        faults: one sentence for each thing that is wrong.
    """

    counted: Counted
    current: str
    faults: tuple[str, ...]


def back_up(settings: Settings, out: Path, key_file: Path) -> int:
    """Write a backup of every key; returns the number of rows.

    Args:
        settings: of the deployment.
        out: a new file.
        key_file: holds the backup key, 64 hex digits; made where it is not there.

    Raises:
        SetupRefused: `out` is there, or the key file is no such file.
        StorageError: the store does not answer.
    """
    if out.exists():
        raise SetupRefused(f"{out} is there; a backup is a new file.")
    if not key_file.exists():
        create_private(key_file, secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
    backup_key = _backup_key(key_file)
    waiting = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    with open_keys(settings, read_deployment(settings)) as store:
        try:
            with os.fdopen(
                os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as f:
                rows = write_backup(store, backup_key, f)
                f.flush()
                os.fsync(f.fileno())
            waiting.rename(out)
        finally:
            waiting.unlink(missing_ok=True)
    return rows


def put_back(settings: Settings, file: Path, key_file: Path) -> Restored:
    """Put a backup back into a store that is there, and perhaps empty.

    Raises:
        SetupRefused: a file cannot be read.
        IntegrityAlarm: the backup was changed or has another key; nothing was put back.
        StorageError: the store or the log's database does not answer.
    """
    deployment = read_deployment(settings)
    backup_key = _backup_key(key_file)
    try:
        stream = file.open("rb")
    except OSError as error:
        raise SetupRefused(f"{file} cannot be read: {error.strerror}.") from error
    with stream, open_keys(settings, deployment) as store:
        return restore_backup(store, backup_key, stream, list(destroyed_by_log(settings)))


def rotate(settings: Settings, *, forget_former: bool) -> tuple[str, int, list[str]]:
    """Begin with a new key-encryption key and wrap every key with it.

    Args:
        settings: of the deployment.
        forget_former: destroy the former ones: every older backup is unreadable then.

    Returns:
        The id of the new one, how many keys were wrapped, and which former ones were destroyed.

    Raises:
        SetupRefused: nothing wraps keys here.
        StorageError: the store, or what wraps, does not answer; doing it again ends it.
    """
    with open_keys(settings, read_deployment(settings)) as store:
        wrapper = store.wrapper
        if wrapper is None:
            raise SetupRefused(
                "Nothing wraps the keys: name FENGNI_KEK_FILE, or a hardware module."
            )
        former = {kek for kek in store.count().by_kek if kek} | {wrapper.current}
        current = wrapper.renew()
        changed = store.rewrap()
        forgotten: list[str] = []
        if forget_former:
            if set(store.count().by_kek) - {current}:
                raise SetupRefused("Some keys are still wrapped otherwise; do it again.")
            for kek in sorted(former - {current}):
                wrapper.forget(kek)
                forgotten.append(kek)
        return current, changed, forgotten


def look_over(settings: Settings) -> LookedOver:
    """Open every key, and compare what was destroyed with what the log says was disposed of.

    Raises:
        StorageError: a store does not answer.
    """
    with open_keys(settings, read_deployment(settings)) as store:
        faults = [*store.faults(), *_alive(store, destroyed_by_log(settings))]
        current = "" if store.wrapper is None else store.wrapper.current
        return LookedOver(counted=store.count(), current=current, faults=tuple(faults))


def destroyed_by_log(settings: Settings) -> Iterator[Destroyed]:
    """What the logs say was disposed of, as notes of the key store; the log remembers for ever."""
    deployment = read_deployment(settings)
    db = Database(database_url(settings, deployment))
    try:
        for log in (log for organ in deployment.organs for log in organ.logs):
            for capture, said_by in _disposed(db, log.id):
                for part in SEALED_PARTS:
                    yield Destroyed(
                        origin=log.origin,
                        name=content_key_name(capture + part),
                        at=said_by.made_at,
                        by="log",
                        reason=f"disposed by {said_by.id}",
                    )
    finally:
        db.close()


def _disposed(db: Database, log: str) -> Iterator[tuple[str, Statement]]:
    start = 0
    while True:
        with db.read() as connection:
            found = records.records_of_kind(
                connection, log, "disposed", start=start, limit=_PIECE_ROWS
            )
            texts = [records.text_at(connection, log, one.index) for one in found]
        for record, raw in zip(found, texts, strict=True):
            if raw is not None and record.subject is not None:
                statement = parse_statement(raw)
                if statement.body["disposed"] == "content":
                    yield record.subject, statement
        if len(found) < _PIECE_ROWS:
            return
        start = found[-1].index + 1


def _alive(store: KeyStore, disposed: Iterator[Destroyed]) -> Iterator[str]:
    noted = {(one.origin, one.name) for one in store.destroyed()}
    names = {(row.origin, content_key_name(row.name)) for row in store.content_rows()}
    for one in disposed:
        if (one.origin, one.name) in names - noted:
            yield f"{one.name} of {one.origin} was disposed of and still has a key"


def _backup_key(path: Path) -> bytes:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SetupRefused(f"Others may read {path}: chmod 600.")
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise SetupRefused(f"{path} holds no backup key of 64 hex digits.") from error
    if len(key) != KEY_BYTES:
        raise SetupRefused(f"{path} holds no backup key of 64 hex digits.")
    return key

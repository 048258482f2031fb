"""`fengni tamper`: flip one byte of a demo, so that anyone can watch which check notices.

Does: what somebody with full rights on the machine could do behind the service's back, to one
chosen thing, and says what it did and which command should notice. The same command again flips
the byte back. Refuses every deployment that is not marked as made for a demonstration.

    object       the stored bytes of a capture's content
    row          the signature in the capture's record       (around the triggers, as an
    statement    the text of the capture's statement          administrator of the database
    token        a time-stamp over the capture                would go: drop, change, restore)
    checkpoint   the signed checkpoint of its receipt
    cosignature  a witness's line under a checkpoint over it
    tile         the tile that holds its leaf
    text         its own encrypted text in the bundle
    package      the first original in a package that was exported from the demo
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import Connection, text

from evidence.canonical import parse_canonical
from evidence.errors import EvidenceError
from evidence.package import INDEX, ORIGINALS, Package
from evidence.tlog.tiles import TILE_WIDTH, TileName, decode_bundle, encode_bundle
from service.deployment_file import OrganSettings, Places, database_url, read_deployment
from service.settings import Settings
from service.setup.deployment import DEVELOPMENT_MARK
from storage import records
from storage.db.engine import Database
from storage.log.texts import texts_name
from storage.records import StoredRecord

_FLIP = 0x01
_HASH_BYTES = 32


class Target(StrEnum):
    """What can be tampered with."""

    OBJECT = "object"
    ROW = "row"
    TILE = "tile"
    TOKEN = "token"  # noqa: S105  a time-stamp token, no password
    STATEMENT = "statement"
    CHECKPOINT = "checkpoint"
    COSIGNATURE = "cosignature"
    TEXT = "text"
    PACKAGE = "package"


_FSCK, _DOCTOR, _EXPORT = "fengni log fsck", "fengni doctor", "fengni export {} --out FILE"
NOTICED_BY: Mapping[Target, tuple[str, ...]] = MappingProxyType(
    {
        Target.OBJECT: (_DOCTOR, _EXPORT),
        Target.ROW: (_FSCK,),
        Target.TILE: (_FSCK, _DOCTOR),
        Target.TOKEN: (_DOCTOR,),
        Target.STATEMENT: (_FSCK,),
        Target.CHECKPOINT: (_FSCK,),
        Target.COSIGNATURE: (_FSCK, _DOCTOR),
        Target.TEXT: (_FSCK,),
        Target.PACKAGE: ("fengni verify {}",),
    }
)
"""Which commands name the broken link; the end-to-end tests hold each of them to it."""


class TamperRefused(Exception):
    """This deployment is not one to play with, or there is nothing of that kind to flip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """What was done.

    Attributes:
        target: the kind of thing.
        subject: id of the capture, or path of the package, that it belongs to.
        place: file, or table with its row.
        offset: number of the byte, from 0.
        before: the byte before.
        after: the byte now.
    """

    target: Target
    subject: str
    place: str
    offset: int
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Victim:
    """One capture of a demo, and everything that is needed to reach its parts."""

    places: Places
    organ: OrganSettings
    db: Database
    record: StoredRecord


def tamper(settings: Settings, target: Target, subject: str | None) -> Flip:
    """Flip one byte.

    Args:
        settings: of a deployment that is marked as a demo.
        target: what to flip a byte of.
        subject: the beginning of a capture's id, None for the newest whose content is stored; or
            the path of a package.

    Raises:
        TamperRefused: it is no demo, or has no such thing.
        SettingsInvalid: it is no deployment.
    """
    deployment = read_deployment(settings)
    if not deployment.development_keys or not (settings.folder / DEVELOPMENT_MARK).is_file():
        raise TamperRefused("This deployment is not marked as a demo; nothing was touched.")
    if target is Target.PACKAGE:
        return _flip_package(Path(subject or ""), deployment.audience)
    organ = deployment.organs[0]
    places = Places(settings.folder)
    db = Database(database_url(settings, deployment))
    try:
        with db.read() as connection:
            record = _find(connection, organ.log.id, subject)
        victim = _Victim(places=places, organ=organ, db=db, record=record)
        place, offset, before = _FLIPS[target](victim)
    finally:
        db.close()
    return Flip(
        target=target,
        subject=record.statement_id,
        place=place,
        offset=offset,
        before=before,
        after=before ^ _FLIP,
    )


def _find(connection: Connection, log: str, beginning: str | None) -> StoredRecord:
    stored = records.records_of_kind(connection, log, "stored", limit=1_000_000)
    subjects = [one.subject for one in stored if one.subject is not None]
    wanted = [one for one in subjects if beginning is None or one.startswith(beginning)]
    record = records.find_record(connection, log, wanted[-1]) if wanted else None
    if record is None:
        raise TamperRefused("This demo has no such capture whose content is stored.")
    return record


def _flip_object(victim: _Victim) -> tuple[str, int, int]:
    if not victim.places.objects.is_dir():
        raise TamperRefused("The objects lie in S3, where a locked one cannot be flipped.")
    log, capture = victim.organ.log.id, victim.record.statement_id
    with victim.db.read() as connection:
        about = records.records_about(connection, log, capture)
        stored = next(one for one in about if one.kind == "stored")
        raw = records.text_at(connection, log, stored.index)
    body = parse_canonical(raw or b"")["body"]
    kept = body["object"] if isinstance(body, dict) else None
    name = str(kept["name"]) if isinstance(kept, dict) else ""
    return _flip_file(victim.places.objects / "sha256" / name[:2] / name[2:4] / name, None)


def _flip_tile(victim: _Victim) -> tuple[str, int, int]:
    tile, place = divmod(victim.record.index, TILE_WIDTH)
    name = TileName(level=0, index=tile).path()
    return _flip_file(_published(victim, name), place * _HASH_BYTES)


def _flip_text(victim: _Victim) -> tuple[str, int, int]:
    """The middle of the capture's own item: its neighbours' texts stay as they are."""
    bundle, number = divmod(victim.record.index, TILE_WIDTH)
    path = _published(victim, texts_name(bundle))
    try:
        items = decode_bundle(path.read_bytes())
    except EvidenceError as error:
        raise TamperRefused("The bundle that holds it is damaged already.") from error
    if number >= len(items):
        raise TamperRefused("The text is not published yet; wait a second.")
    start = len(encode_bundle(items[: number + 1])) - len(items[number])
    return _flip_file(path, start + len(items[number]) // 2)


def _published(victim: _Victim, name: str) -> Path:
    """The file of a tile or bundle: the full one, or the widest partial one."""
    full = victim.places.tiles(victim.organ.log.id) / name
    if full.is_file():
        return full
    partial = [path for path in full.with_name(f"{full.name}.p").glob("*") if path.name.isdigit()]
    if not partial:
        raise TamperRefused("The tile is not published yet; wait a second.")
    return max(partial, key=lambda path: int(path.name))


def _flip_file(path: Path, offset: int | None) -> tuple[str, int, int]:
    """Flip a byte in place, through the mode bits; `offset` None takes the middle."""
    if not path.is_file() or not path.stat().st_size:
        raise TamperRefused("The file that holds it is not there, or is empty.")
    mode = path.stat().st_mode
    path.chmod(0o600)
    try:
        with path.open("r+b") as file:
            at = path.stat().st_size // 2 if offset is None else offset
            file.seek(at)
            before = file.read(1)[0]
            file.seek(at)
            file.write(bytes([before ^ _FLIP]))
    finally:
        path.chmod(mode)
    return str(path), at, before


def _flip_package(path: Path, audience: str) -> Flip:
    """Only packages of this demo: somebody else's evidence is not touched."""
    try:
        with path.open("rb") as stream:
            package = Package(stream)
            index = parse_canonical(package.read(INDEX), max_bytes=path.stat().st_size)
            original = next(name for name in package.names() if name.startswith(ORIGINALS))
            first = next(package.pieces(original))
            start = stream.tell() - len(first)
    except (OSError, EvidenceError, StopIteration) as error:
        raise TamperRefused(f"{path} is no package with an original.") from error
    if index.get("audience") != audience:
        raise TamperRefused("The package is not from this demo; nothing was touched.")
    place, offset, before = _flip_file(path, start + package.size_bytes(original) // 2)
    return Flip(
        target=Target.PACKAGE,
        subject=str(path),
        place=place,
        offset=offset,
        before=before,
        after=before ^ _FLIP,
    )


def _flip_row(victim: _Victim) -> tuple[str, int, int]:
    return _flip_cell(victim, "records", "signature", f"idx = {victim.record.index}")


def _flip_statement(victim: _Victim) -> tuple[str, int, int]:
    return _flip_cell(victim, "texts", "statement", f"idx = {victim.record.index}")


def _flip_checkpoint(victim: _Victim) -> tuple[str, int, int]:
    return _flip_cell(victim, "checkpoints", "note", f"size = {victim.record.committed_size}")


def _flip_token(victim: _Victim) -> tuple[str, int, int]:
    index = victim.record.index
    over_it = f"(subject_kind = 'signature' AND position = {index})"
    after_it = f"(subject_kind = 'checkpoint' AND position > {index})"
    return _flip_cell(victim, "timestamps", "response", f"{over_it} OR {after_it}")


def _flip_cosignature(victim: _Victim) -> tuple[str, int, int]:
    return _flip_cell(victim, "cosignatures", "line", f"size > {victim.record.index}")


def _flip_cell(victim: _Victim, table: str, column: str, where: str) -> tuple[str, int, int]:
    """Change one cell behind the triggers' back; they stand again when the transaction ends.

    The names and conditions are this module's own, from whole numbers of the log.
    """
    ours = f"log = '{victim.organ.log.id}' AND ({where})"
    query = f"SELECT rowid, {column} FROM {table} WHERE {ours} ORDER BY rowid LIMIT 1"  # noqa: S608
    with victim.db.write() as connection:
        if victim.db.path is None:
            raise TamperRefused("A row is flipped in a SQLite file only; the demo has one.")
        row = connection.execute(text(query)).first()
        if row is None:
            raise TamperRefused(f"There is no such row in {table} yet; wait a second.")
        kept = row[1]
        cell = bytearray(kept.encode() if isinstance(kept, str) else kept)
        at = len(cell) // 2
        before = cell[at]
        cell[at] = before ^ _FLIP
        triggers = connection.execute(
            text(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table"
            ),
            {"table": table},
        ).all()
        for name, _ in triggers:
            connection.execute(text(f"DROP TRIGGER {name}"))
        change = f"UPDATE {table} SET {column} = :cell WHERE rowid = :row"  # noqa: S608
        changed = cell.decode() if isinstance(kept, str) else bytes(cell)
        connection.execute(text(change), {"cell": changed, "row": row[0]})
        for _, sql in triggers:
            connection.exec_driver_sql(sql)
    return f"{table}.{column}, row {row[0]}", at, before


_FLIPS: Mapping[Target, Callable[[_Victim], tuple[str, int, int]]] = MappingProxyType(
    {
        Target.OBJECT: _flip_object,
        Target.ROW: _flip_row,
        Target.TILE: _flip_tile,
        Target.TOKEN: _flip_token,
        Target.STATEMENT: _flip_statement,
        Target.CHECKPOINT: _flip_checkpoint,
        Target.COSIGNATURE: _flip_cosignature,
        Target.TEXT: _flip_text,
    }
)

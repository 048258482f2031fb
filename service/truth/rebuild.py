"""`fengni db rebuild`: a new database, made of the log's files and the object store's names.

1. The new place is empty: no file of that name, no row in any table.
2. It gets the schema, and the service's role its rights.
3. For each log, those that have ended too, the evidence rows are made of the published files, as
   `fengni db verify` proves them, and the rows of work of how far each capture has come.
4. Another database, such as a damaged one or an old backup, may be named as a second source. Of
   it only what proves itself is taken: what the files have lost, entries up to a checkpoint that
   the log signed, cosignatures, time-stamps.
5. All of it is one transaction: a kill leaves an empty database.

Does: says what is lost. Refuses: to write where anything is; to leave out an entry, a text or a
checkpoint that a receipt needs; to carry over tokens, exports and readers' windows, which no
signature proves.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

from sqlalchemy import Connection, Table, insert, inspect, literal, select, table
from sqlalchemy.engine import make_url

from evidence.errors import EvidenceError
from service.captures.arrivals import STORE
from service.captures.workflow import STAMP
from service.context import log_stores, open_heads
from service.data_keys import open_keys
from service.deployment_file import (
    Deployment,
    LogSettings,
    OrganSettings,
    database_url,
    read_deployment,
)
from service.settings import Settings
from service.setup.databases import SetupRefused, migrate_database
from service.truth.attested import (
    Parties,
    moment_of,
    parties_of,
    sound_cosignature,
    sound_token,
)
from service.truth.course import Course, Courses
from service.work.queue import State, add_pieces
from storage import records
from storage.db.engine import Database
from storage.db.inserting import insert_rows
from storage.db.tables import (
    checkpoints,
    cosignatures,
    public_keys,
    texts,
    timestamps,
    uploads,
)
from storage.db.tables import records as record_rows
from storage.errors import IntegrityAlarm, StorageError
from storage.log import LogStores
from storage.log.bundle import Bundle
from storage.log.comparing import kept_rows, rows_of
from storage.log.readback import ReadLog
from storage.log.rows import newest_size
from storage.records import Stamped

_PIECE_ROWS = 500
_BOOKKEEPING = frozenset({"alembic_version", "dbos_migrations"})
"""Tables of a database that was made and not yet used."""

_EVIDENCE = (record_rows, texts, public_keys, checkpoints)
_UNSOUND = (EvidenceError, IntegrityAlarm, TypeError, ValueError, LookupError, OverflowError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """One log in the new database.

    Attributes:
        log: its id in addresses.
        entries: how many it has now.
        salvaged: how many of them only the other database had.
        captures: how many of the entries are captures.
        cosignatures: how many of them were taken over.
        timestamps: how many of them were taken over.
        lost: how many entries were answered for, as the head says, and are nowhere.
    """

    log: str
    entries: int
    salvaged: int
    captures: int
    cosignatures: int
    timestamps: int
    lost: int

    def document(self) -> dict[str, object]:
        """The same as JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def rebuild_database(
    settings: Settings,
    at: datetime,
    *,
    url: str | None = None,
    owner_url: str | None = None,
    salvage: str | None = None,
) -> list[Rebuilt]:
    """Do the steps of the module.

    Args:
        settings: of the deployment; its database may be gone.
        at: now, UTC.
        url: of the new database, for the service's role; else where the deployment has its own.
        owner_url: the same for the role that owns the tables.
        salvage: of another database of this deployment, as a second source.

    Raises:
        SetupRefused: something is there already.
        IntegrityAlarm: an entry, a text or a checkpoint is nowhere.
        SettingsInvalid, StorageError: the deployment or a store cannot be read.
    """
    deployment = read_deployment(settings)
    target = url or database_url(settings, deployment)
    require_empty(owner_url or target)  # 1
    migrate_database(target, owner_url)  # 2
    with ExitStack() as opened:
        new = opened.enter_context(closing(Database(target)))
        texts_keys = opened.enter_context(open_keys(settings, deployment, new))
        heads = opened.enter_context(open_heads(settings, deployment))
        second: Connection | None = None
        if salvage is not None:
            other = opened.enter_context(closing(Database(salvage)))
            other.require_schema()
            second = opened.enter_context(other.read())
        connection = opened.enter_context(new.write())
        return [
            _Rebuild(
                settings=settings,
                organ=organ,
                log=log,
                stores=log_stores(settings, log, new, texts_keys, heads),
                connection=connection,
                second=second,
                at=at,
            ).run()
            for organ, log in _logs(deployment)
        ]


def require_empty(url: str) -> None:
    """Refuse a database in which anything is.

    Raises:
        SetupRefused: a file of that name is there, or a table has a row.
        Unavailable: the server does not answer.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and Path(str(parsed.database)).exists():
        if Path(str(parsed.database)).stat().st_size and _rows(url):
            raise SetupRefused("A database lies there already; name a new one.")
    elif parsed.get_backend_name() != "sqlite" and _rows(url):
        raise SetupRefused("The database holds rows already; name a new one.")


def _rows(url: str) -> bool:
    with closing(Database(url)) as db, db.read() as connection:
        there = set(inspect(connection).get_table_names()) - _BOOKKEEPING
        return any(
            connection.execute(select(literal(1)).select_from(table(name)).limit(1)).first()
            for name in sorted(there)
        )


def _logs(deployment: Deployment) -> Iterator[tuple[OrganSettings, LogSettings]]:
    for organ in deployment.organs:
        for log in organ.logs:
            yield organ, log


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rebuild:
    """Steps 3 and 4 for one log."""

    settings: Settings
    organ: OrganSettings
    log: LogSettings
    stores: LogStores
    connection: Connection
    second: Connection | None
    at: datetime

    def run(self) -> Rebuilt:
        """Do steps 3 and 4; the rows are there when the caller commits."""
        parties = parties_of(self.settings, self.organ, self.log)
        read = ReadLog(self.stores, parties.log_keys)
        newest = 0
        if self.second is not None:
            newest = newest_size(self.second, self.log.id) or 0
        end = max(read.size, newest)
        seen: set[str] = set()
        with closing(Courses()) as courses:
            for bundle in self._bundles(read, newest):
                self._require_whole(bundle)
                if bundle.first == 0:
                    self._add_log(bundle)
                for table, rows in rows_of(bundle, self.log.id, self.organ.id, seen).items():
                    insert_rows(self.connection, table, rows)
                courses.take(bundle)
            self._require_end(end)
            given = self._attested(parties)
            captures = self._leave_work(courses)
        return Rebuilt(
            log=self.log.id,
            entries=end,
            salvaged=end - read.size,
            captures=captures,
            cosignatures=given[0],
            timestamps=given[1],
            lost=max(0, self._head() - end),
        )

    def _bundles(self, read: ReadLog, newest: int) -> Iterator[Bundle]:
        tail = () if self.second is None else read.tail(self.second, newest)
        return chain(read.bundles(self.second), tail)

    def _require_whole(self, bundle: Bundle) -> None:
        """Refuse to go on without anything that a receipt or a reader needs."""
        whole = {
            entry.index for entry in bundle.entries if entry.leaf is not None and entry.statement
        }
        for index in range(bundle.first, bundle.end):
            if index not in whole:
                raise IntegrityAlarm(f"entry {index} of {self.log.id} is nowhere whole")
        for entry in bundle.entries:
            size = 0 if entry.text is None else entry.text.committed_size
            if bundle.first < size <= bundle.end and size not in bundle.checkpoints:
                raise IntegrityAlarm(f"checkpoint {size} of {self.log.id} is nowhere whole")

    def _require_end(self, end: int) -> None:
        if newest_size(self.connection, self.log.id) != end:
            raise IntegrityAlarm(f"the newest checkpoint of {self.log.id} is nowhere whole")

    def _add_log(self, bundle: Bundle) -> None:
        first = bundle.checkpoints.get(0)
        if first is None:
            raise IntegrityAlarm(f"the first checkpoint of {self.log.id} is nowhere whole")
        records.add_log(
            self.connection,
            log=self.log.id,
            organ=self.organ.id,
            origin=self.log.origin,
            at=first.committed_at,
        )

    def _attested(self, parties: Parties) -> tuple[int, int]:
        """What witnesses and authorities gave, as far as it proves itself (4)."""
        if self.second is None:
            return 0, 0
        lines = tokens = 0
        for row in kept_rows(self.second, cosignatures, cosignatures.c.log == self.log.id):
            if self._sound(cosignatures, parties, row):
                self.connection.execute(insert(cosignatures), [_typed(cosignatures, row)])
                lines += 1
        for row in kept_rows(self.second, timestamps, timestamps.c.log == self.log.id):
            if self._sound(timestamps, parties, row):
                self.connection.execute(insert(timestamps), [_typed(timestamps, row)])
                tokens += 1
        return lines, tokens

    def _sound(self, table: Table, parties: Parties, row: dict[str, object]) -> bool:
        try:
            if table is cosignatures:
                sound_cosignature(self.connection, parties, row)
            else:
                sound_token(self.connection, parties, row)
        except _UNSOUND:
            return False
        return True

    def _leave_work(self, courses: Courses) -> int:
        """The rows of contents and what is left to do; returns how many captures there are."""
        every, count = courses.all(), 0
        while piece := list(islice(every, _PIECE_ROWS)):
            count += len(piece)
            insert_rows(self.connection, uploads, [self._upload_row(one) for one in piece])
            self._add_work(piece)
        return count

    def _upload_row(self, course: Course) -> dict[str, object]:
        return {
            "log": self.log.id,
            "id": course.capture,
            "organ": course.organ,
            "state": course.state.value,
            "sha256": course.sha256,
            "size_bytes": course.size_bytes,
            "media_type": course.media_type,
            "received_at": course.received_at,
            "updated_at": self.at,
        }

    def _add_work(self, piece: list[Course]) -> None:
        stamped = self._stamped(piece)
        wanted: dict[str, list[str]] = {}
        for course in piece:
            for kind in (*course.work, *course.perhaps):
                wanted.setdefault(kind, []).append(course.capture)
            if self._wants_token(course) and course.capture not in stamped:
                wanted.setdefault(STAMP, []).append(course.capture)
        for kind, subjects in wanted.items():
            add_pieces(
                self.connection,
                log=self.log.id,
                organ=self.organ.id,
                kind=kind,
                subjects=subjects,
                at=self.at,
                state=State.HELD if kind == STORE else State.WAITING,
            )

    def _wants_token(self, course: Course) -> bool:
        organ, is_open = self.organ, self.log == self.organ.log
        asks = is_open and organ.stamp_captures and bool(organ.authorities)
        return asks and course.received_at is not None and not course.disposed

    def _stamped(self, piece: list[Course]) -> set[str]:
        """Captures that have the token of every authority."""
        names = {one.name for one in self.organ.authorities}
        return {
            one.capture
            for one in piece
            if names
            <= {
                stamp.tsa
                for stamp in records.timestamps_of(
                    self.connection, self.log.id, Stamped.SIGNATURE, one.index
                )
            }
        }

    def _head(self) -> int:
        try:
            return self.stores.heads.read().size
        except StorageError:
            return 0


def _typed(table: Table, row: dict[str, object]) -> dict[str, object]:
    """A row as it is kept, with its times as the table's types take them."""
    return {
        column.name: moment_of(row[column.name])
        if column.type.python_type is datetime
        else row[column.name]
        for column in table.c
    }

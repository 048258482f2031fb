"""The work rows: queue, exports, windows of reading, tokens. No evidence, and still checked.

Does: asks whether each row could have been written by the service over what is logged: names that
exist, states that lead on, times within their bounds, a package that is what its row says, and a
reading's window only where the reading is logged. Refuses to vouch for the rest: what only the
service knows (attempts, last problems, when a row was written) is nobody's proof.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    exists,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.types import BigInteger

from evidence.digest import measure
from evidence.errors import EvidenceError
from evidence.statement import parse_statement
from service.captures.arrivals import STORE
from service.captures.queries import ContentState
from service.captures.reading import window_subject
from service.captures.workflow import INSPECT, STAMP
from service.deployment_file import Deployment, Places
from service.doctor.diagnosis import Findings, Listed
from service.exports.packages import Package, Packages
from service.exports.queries import EXPORT, ExportState
from service.law.permissions import Scope
from service.retention.deeds import DISPOSE
from service.scrub.last import SCRUB
from service.settings import Settings
from service.stores import open_staging
from service.webhooks.deliveries import WEBHOOK
from service.work.queue import LONGEST_PAUSE_S, State
from storage import records
from storage.db.engine import Database, value_faults
from storage.db.tables import (
    EVIDENCE,
    deliveries,
    exports,
    metadata,
    outbox,
    tokens,
    uploads,
    views,
    webhook_places,
)
from storage.db.tables import records as record_rows
from storage.errors import StorageError

_PIECE_BYTES = 1024 * 1024
_MOST_BYTES = 1024 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_STEP = timedelta(hours=1)
_WORK = tuple(table for table in metadata.sorted_tables if table not in EVIDENCE)


def check_work(settings: Settings, deployment: Deployment, db: Database, at: datetime) -> Findings:
    """Whether each row fits the log and the settings."""
    ours = [(log.id, organ.id) for organ in deployment.organs for log in organ.logs]
    with db.read() as connection:
        values = Listed("work.values")
        for fault in value_faults(connection, _WORK):
            values.fail(f"{fault}.")
        yield from values.end()
        for table in (outbox, exports, views, deliveries, webhook_places):
            yield from _of_nobody(connection, table, ours)
        yield from _check_queue(connection, at)
        yield from _check_tokens(connection, deployment)
        staging = open_staging(settings, lambda: at, None)
        packages = Packages(Places(settings.folder).exports, staging)
        yield from _check_exports(connection, packages)
        yield from _check_views(connection, settings, at)


def _of_nobody(connection: Connection, table: Table, ours: Sequence[tuple[str, str]]) -> Findings:
    """Rows of no log and organ of this deployment."""
    key = next(iter(table.primary_key.columns)) if table is not views else table.c.object
    query = select(key).where(tuple_(table.c.log, table.c.organ).not_in(ours))
    wrong = Listed(f"work.{table.name}")
    for name in connection.execute(query).scalars():
        wrong.fail(f"Row {name} of {table.name} is of no log and organ of this deployment.")
    yield from wrong.end()


def _check_queue(connection: Connection, at: datetime) -> Findings:
    """Work that nobody would ever do, or that is on nothing."""
    latest = _ms(at + _CLOCK_STEP + timedelta(seconds=LONGEST_PAUSE_S))
    due = _raw(outbox.c.due_at)
    held_by_one = outbox.c.state.in_([State.HANDED.value, State.LEASED.value])
    logged = exists().where(
        record_rows.c.log == outbox.c.log,
        record_rows.c.statement_id == outbox.c.subject,
        record_rows.c.kind == "capture",
    )
    asked = exists().where(exports.c.log == outbox.c.log, exports.c.id == outbox.c.subject)
    announced = exists().where(
        uploads.c.log == outbox.c.log,
        uploads.c.id == outbox.c.subject,
        uploads.c.state == ContentState.ANNOUNCED.value,
    )
    told = exists().where(deliveries.c.log == outbox.c.log, deliveries.c.id == outbox.c.subject)
    telling, scrubbing = outbox.c.kind == WEBHOOK, outbox.c.kind == SCRUB
    storing, exporting = outbox.c.kind == STORE, outbox.c.kind == EXPORT
    held = outbox.c.state == State.HELD.value
    wrongs = {
        "is of no kind that is done here": outbox.c.kind.not_in(
            [STORE, INSPECT, STAMP, EXPORT, WEBHOOK, DISPOSE, SCRUB]
        ),
        "is in a state that does not exist": outbox.c.state.not_in([one.value for one in State]),
        "is on a capture that is not logged": ~exporting & ~telling & ~scrubbing & ~logged,
        "is on an export that nobody asked for": exporting & ~asked,
        "is on a delivery that is not there": telling & ~told,
        "waits for nothing that will come": held & ~(storing & announced),
        "would be done before the content has come": storing & ~held & announced,
        "is due later than any pause": due > latest,
        "is with nobody": held_by_one & outbox.c.lease_owner.is_(None),
        "is with somebody and waits": ~held_by_one & outbox.c.lease_owner.is_not(None),
    }
    yield from _told(connection, outbox, outbox.c.id, wrongs)


def _check_tokens(connection: Connection, deployment: Deployment) -> Findings:
    """People's bearer tokens: of an organ of ours, for what can be done.

    Of which of our organs, for whom and how long, the operator alone knows.
    """
    organs = [organ.id for organ in deployment.organs]
    wrong = Listed("work.tokens")
    rows = connection.execute(select(tokens.c.id, tokens.c.organ, tokens.c.scopes))
    for token, organ, scopes in rows:
        if organ not in organs:
            wrong.fail(f"Token {token} is of no organ of this deployment.")
        if not set(scopes.split(" ")) <= set(Scope):
            wrong.fail(f"Token {token} has a scope that does not exist.")
    yield from wrong.end()


def _check_exports(connection: Connection, packages: Packages) -> Findings:
    """Exports: each is stated for each of its captures, and a ready one is what its row says."""
    wrong, hashed_bytes = Listed("work.exports"), 0
    query = select(
        exports.c.log,
        exports.c.id,
        exports.c.state,
        exports.c.requested_by,
        exports.c.captures,
        exports.c.sha256,
        exports.c.size_bytes,
        _raw(exports.c.ready_at),
        _raw(exports.c.expires_at),
    )
    for log, name, state, person, captures, sha256, size_bytes, ready, ends in connection.execute(
        query
    ):
        for capture in captures.split(" "):
            if not _exported(connection, log, capture, person, name):
                wrong.fail(f"Export {name}: the log has no such export of {capture} by {person}.")
        if state not in set(ExportState):
            wrong.fail(f"Export {name} is in a state that does not exist.")
        if (state in _MADE) != all(one is not None for one in (sha256, size_bytes, ready, ends)):
            wrong.fail(f"Export {name} is {state}, and its row does not fit that.")
        elif state == ExportState.READY:
            package = Package(export=name, sha256=sha256, size_bytes=size_bytes)
            if fault := _package_fault(packages, package, deep=hashed_bytes <= _MOST_BYTES):
                wrong.fail(f"Export {name}: {fault}")
            hashed_bytes += size_bytes
    yield from wrong.end()


_MADE = frozenset({ExportState.READY.value, ExportState.EXPIRED.value})


def _package_fault(packages: Packages, package: Package, *, deep: bool) -> str:
    try:
        with packages.open(package) as stream:
            if not deep:
                return ""
            measured = measure(iter(lambda: stream.read(_PIECE_BYTES), b""))
    except (OSError, StorageError):
        return "the package is gone or cannot be read."
    if (measured.sha256, measured.size_bytes) != (package.sha256, package.size_bytes):
        return "the package holds other bytes."
    return ""


def _check_views(connection: Connection, settings: Settings, at: datetime) -> Findings:
    """Windows in which a reading is no new entry: only after one that is logged, and not longer."""
    wrong = Listed("work.views")
    window = timedelta(seconds=settings.view_window_s)
    read = _recently_read(connection, at - window - _CLOCK_STEP)
    query = select(views.c.log, views.c.reader, views.c.object, _raw(views.c.until))
    for log, reader, subject, until in connection.execute(
        query.where(_raw(views.c.until) > _ms(at))
    ):
        if until > _ms(at + window + _CLOCK_STEP):
            wrong.fail(f"{reader} could read {subject} unlogged for longer than is allowed.")
        elif (log, reader, subject) not in read:
            wrong.fail(f"{reader} could read {subject} unlogged, and no reading of it is logged.")
    yield from wrong.end()


def _recently_read(connection: Connection, since: datetime) -> set[tuple[str, str, str]]:
    """(log, reader, subject of a window) of the readings that can have a window open."""
    query = select(record_rows.c.log, record_rows.c.idx, record_rows.c.subject).where(
        record_rows.c.kind == "custody", _raw(record_rows.c.received_at) >= _ms(since)
    )
    found: set[tuple[str, str, str]] = set()
    for log, index, capture in connection.execute(query).all():
        try:
            body = parse_statement(records.text_at(connection, log, index) or b"").body
        except EvidenceError:
            continue
        if body["event"] in {"viewed", "previewed"}:
            found.add((log, str(body["actor"]), window_subject(capture, str(body["event"]))))
    return found


def _exported(connection: Connection, log: str, capture: str, actor: str, reference: str) -> bool:
    """Whether the log has this export of a capture by somebody.

    Texts that cannot be read are not that statement; fsck names them.
    """
    for record in records.records_about(connection, log, capture):
        if record.kind != "custody":
            continue
        try:
            body = parse_statement(records.text_at(connection, log, record.index) or b"").body
        except EvidenceError:
            continue
        said = (body["event"], body["actor"], body.get("reference"))
        if said == ("exported", actor, reference):
            return True
    return False


def _told(
    connection: Connection,
    table: Table,
    key: Column[int],
    wrongs: Mapping[str, ColumnElement[bool]],
) -> Findings:
    """Each row for which one of these is true."""
    wrong = Listed(f"work.{table.name}")
    for what, holds in wrongs.items():
        for row in connection.execute(select(key).where(holds)).scalars():
            wrong.fail(f"Row {row} of {table.name} {what}.")
    yield from wrong.end()


def _raw(column: Column[datetime]) -> ColumnElement[int]:
    """A time as the number that it is kept as: damaged ones are none."""
    return type_coerce(column, BigInteger)


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)

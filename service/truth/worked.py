"""Rows of work that follow from the log: `uploads`, `holdings`, and what `outbox` must hold.

Does: compares each capture's rows with how far the log says that it has come. Refuses to judge
what no statement says: whether content is on its way, attempts, leases and times of rows are
`fengni doctor`'s to look at.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy import Connection, select

from evidence.schema import format_time
from service.captures.arrivals import STORE
from service.captures.queries import ContentState
from service.captures.workflow import INSPECT
from service.retention.deeds import DISPOSE
from service.scrub.holdings import wrong_columns
from service.truth.course import Course, Courses
from storage.db.tables import holdings, outbox, uploads
from storage.log.comparing import Difference, Kind, kept_rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PIECE_ROWS = 500
_BEFORE = frozenset({ContentState.ANNOUNCED.value, ContentState.RECEIVED.value})
_Row = Mapping[str, object]


def compare_work(connection: Connection, log: str, courses: Courses) -> Iterator[Difference]:
    """Name what differs.

    Args:
        connection: in the snapshot of the walk.
        log: id of the log.
        courses: of every capture of the log.
    """
    every = courses.all()
    while piece := list(islice(every, _PIECE_ROWS)):
        ids = [course.capture for course in piece]
        found = {
            str(row["id"]): row
            for row in kept_rows(connection, uploads, uploads.c.log == log, uploads.c.id.in_(ids))
        }
        for course in piece:
            yield from _upload_differences(log, course, found.get(course.capture))
        yield from _work_missing(connection, log, piece)
    for row in kept_rows(connection, uploads, uploads.c.log == log):
        if courses.find(str(row["id"])) is None:
            yield _one("uploads", f"{log} {row['id']}", None, "extra", "it was never announced")
    yield from _work_extra(connection, log, courses)
    for row in kept_rows(connection, holdings, holdings.c.log == log):
        key = f"{log} {row['idx']}"
        for name in wrong_columns(connection, row):
            yield _one("holdings", key, name, "differs", "the statement says something else")


def _upload_differences(log: str, course: Course, row: _Row | None) -> Iterator[Difference]:
    key = f"{log} {course.capture}"
    if row is None:
        yield _one("uploads", key, None, "missing", "the log has the capture")
        return
    for name in ("organ", "sha256", "size_bytes", "media_type"):
        if row[name] != getattr(course, name):
            yield _one("uploads", key, name, "differs", "the capture announced something else")
    stated = course.received_at is not None
    fits = row["state"] == course.state if stated else row["state"] in _BEFORE
    if not fits:
        said = f"a statement says that it is {course.state}" if stated else "no statement says so"
        yield _one("uploads", key, "state", "differs", said)
    if course.received_at is not None and _time(row["received_at"]) != format_time(
        course.received_at
    ):
        yield _one("uploads", key, "received_at", "differs", "another time was stated")


def _work_missing(
    connection: Connection, log: str, piece: Sequence[Course]
) -> Iterator[Difference]:
    ids = [course.capture for course in piece if course.work]
    if not ids:
        return
    rows = connection.execute(
        select(outbox.c.kind, outbox.c.subject).where(
            outbox.c.log == log, outbox.c.subject.in_(ids)
        )
    )
    left = {(kind, subject) for kind, subject in rows}
    for course in piece:
        for kind in course.work:
            if (kind, course.capture) not in left:
                why = f"nothing is left that would {kind} it"
                yield _one("outbox", f"{log} {kind} {course.capture}", None, "missing", why)


def _work_extra(connection: Connection, log: str, courses: Courses) -> Iterator[Difference]:
    kinds = (STORE, INSPECT, DISPOSE)
    for row in kept_rows(connection, outbox, outbox.c.log == log, outbox.c.kind.in_(kinds)):
        course, kind = courses.find(str(row["subject"])), str(row["kind"])
        if course is None or kind in course.ended:
            why = "the log has no such capture" if course is None else "a statement says it is done"
            yield _one("outbox", f"{log} {kind} {row['subject']}", None, "extra", why)


def _time(at_ms: object) -> str:
    try:
        return format_time(_EPOCH + timedelta(milliseconds=at_ms)) if isinstance(at_ms, int) else ""
    except OverflowError:
        return ""


def _one(table: str, key: str, column: str | None, kind: Kind, why: str) -> Difference:
    return Difference(table=table, key=key, column=column, kind=kind, believed="log", why=why)

"""The rows of exports: who asked for what, and what became of it.

Does: work rows only; that somebody exported is told by custody statements.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from service.exports.packages import Package
from service.work.counts import pieces_of
from service.work.queue import State
from storage.db.tables import exports

EXPORT = "export"
"""The kind of work that an export leaves behind."""


class ExportState(StrEnum):
    """What became of an export."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export.

    Attributes:
        id: 32 hex digits.
        log: id of the log.
        organ: the organ.
        state: what became of it.
        requested_by: pseudonym.
        captures: statement ids, in the order of the request.
        created_at: UTC.
        sha256: of the package, once it is ready.
        size_bytes: of the package, once it is ready.
        expires_at: when the package is removed, once it is ready.
    """

    id: str
    log: str
    organ: str
    state: ExportState
    requested_by: str
    captures: tuple[str, ...]
    created_at: datetime
    sha256: str | None
    size_bytes: int | None
    expires_at: datetime | None


def add_export(connection: Connection, export: Export) -> None:
    """Note an export, in the transaction of its custody statements."""
    connection.execute(
        insert(exports).values(
            id=export.id,
            log=export.log,
            organ=export.organ,
            state=export.state.value,
            requested_by=export.requested_by,
            captures=" ".join(export.captures),
            created_at=export.created_at,
        )
    )


def find_export(connection: Connection, log: str, export_id: str) -> Export | None:
    """An export of this log, or None."""
    row = connection.execute(
        select(exports).where(exports.c.id == export_id, exports.c.log == log)
    ).one_or_none()
    if row is None:
        return None
    export = _export(row)
    work = pieces_of(connection, log, export_id).get(EXPORT)
    failed = export.state is ExportState.PENDING and work is not None and work[0] is State.FAILED
    return replace(export, state=ExportState.FAILED) if failed else export


def package_of(export: Export) -> Package | None:
    """The package of an export, once it is made."""
    if export.sha256 is None or export.size_bytes is None:
        return None
    return Package(export=export.id, sha256=export.sha256, size_bytes=export.size_bytes)


def mark_ready(
    connection: Connection,
    export_id: str,
    *,
    sha256: str,
    size_bytes: int,
    at: datetime,
    expires_at: datetime,
) -> None:
    """Note that the package lies there."""
    connection.execute(
        update(exports)
        .where(exports.c.id == export_id)
        .values(
            state=ExportState.READY.value,
            sha256=sha256,
            size_bytes=size_bytes,
            ready_at=at,
            expires_at=expires_at,
        )
    )


def expired_exports(connection: Connection, at: datetime) -> list[Package]:
    """Packages that have been kept long enough."""
    return _packages(connection, exports.c.expires_at <= at)


def is_expired(connection: Connection, export_id: str) -> bool:
    """Whether it is noted that the package of an export is gone."""
    state = connection.execute(select(exports.c.state).where(exports.c.id == export_id))
    return state.scalar_one_or_none() == ExportState.EXPIRED.value


def packages_with(connection: Connection, log: str, capture: str) -> list[Package]:
    """Packages that hold a capture's content."""
    holds = exports.c.captures.contains(capture, autoescape=True)
    return _packages(connection, exports.c.log == log, holds)


def mark_expired(connection: Connection, export_ids: Sequence[str]) -> None:
    """Note that the packages are gone."""
    connection.execute(
        update(exports).where(exports.c.id.in_(export_ids)).values(state=ExportState.EXPIRED.value)
    )


def _packages(connection: Connection, *which: ColumnElement[bool]) -> list[Package]:
    """Packages that are there."""
    query = select(exports.c.id, exports.c.sha256, exports.c.size_bytes)
    rows = connection.execute(query.where(exports.c.state == ExportState.READY.value, *which))
    return [Package(export=row.id, sha256=row.sha256, size_bytes=row.size_bytes) for row in rows]


def _export(row: Row[tuple[object, ...]]) -> Export:
    return Export(
        id=row.id,
        log=row.log,
        organ=row.organ,
        state=ExportState(row.state),
        requested_by=row.requested_by,
        captures=tuple(row.captures.split()),
        created_at=row.created_at,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        expires_at=row.expires_at,
    )

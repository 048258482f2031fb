"""What the log says about a capture's retention, read for the rules that decide.

Does: reads the statements about one capture in one snapshot or transaction, and has each step
considered again in the transaction that logs it, on whatever node leads the log. Refuses to keep a
state of its own: there is no row that could say something else than the log.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import msgspec
from sqlalchemy import Connection, func, select

from evidence.canonical import JSONValue
from evidence.schema import parse_time
from evidence.statement import Statement
from service.captures.queries import Logged, find_upload, with_text
from service.contents import Kept, kept_by, output_of
from service.context import Context, Organ
from service.law.refusals import LeaseLost
from service.law.retention import Act, Standing, consider, fold
from service.problems import Problem
from service.retention_classes import RetentionClass
from service.work.queue import Piece, still_leased
from storage import records
from storage.db.tables import records as record_rows

_KINDS = frozenset({"stored", "inspected", "custody", "disposed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A capture whose content is stored, or was.

    Attributes:
        capture: its id.
        index: its index.
        sha256: of the content.
        received_at: when the content came, UTC.
        kept: where it lies.
        former: where it lay before it was mended; the store may keep that.
        outputs: where what was read in it lies.
        kind: its class of retention; None where it has none.
        standing: where it stands.
        previous: the last statement about it.
    """

    capture: str
    index: int
    sha256: str
    received_at: datetime
    kept: Kept
    former: tuple[Kept, ...]
    outputs: tuple[Kept, ...]
    kind: RetentionClass | None
    standing: Standing
    previous: str | None

    @property
    def parts(self) -> tuple[Kept, ...]:
        """Everything that a disposal must reach."""
        return (self.kept, *self.former, *self.outputs)

    @property
    def keep_until(self) -> datetime | None:
        """Until when its class keeps it, UTC; None where it has none."""
        return self.standing.keep_until


def find_subject(
    context: Context, organ: Organ, capture: str, connection: Connection | None = None
) -> Subject:
    """What the log says about a capture now.

    Args:
        context: database and classes.
        organ: whose capture it is.
        capture: its id.
        connection: of a transaction that is open; None for a snapshot of its own.

    Raises:
        Problem: `capture_unknown`, or `content_unknown` where nothing of it was stored.
    """
    if connection is None:
        with context.db.read() as snapshot:
            return find_subject(context, organ, capture, snapshot)
    record = records.find_record(connection, organ.log_id, capture)
    upload = find_upload(connection, organ.log_id, capture)
    if record is None or record.kind != "capture" or upload is None:
        raise Problem("capture_unknown", "This organ's log holds no such capture.")
    about = _about(connection, organ.log_id, capture)
    lies = [one.statement for one in about if one.statement.kind == "stored"]
    if not lies:
        raise Problem("content_unknown", "No content of this capture is stored.")
    *former, stored = lies
    received_at = parse_time(str(stored.body["received_at"]))
    name = stored.body.get("retention_class")
    kind = next((k for k in context.deployment.retention_classes if k.name == name), None)
    keep_until = None if kind is None else received_at + timedelta(days=kind.keep_days)
    outputs = [output_of(one.statement) for one in about if one.statement.kind == "inspected"]
    return Subject(
        capture=capture,
        index=record.index,
        sha256=upload.sha256,
        received_at=received_at,
        kept=kept_by(stored),
        former=tuple(map(kept_by, former)),
        outputs=tuple(one for one in outputs if one is not None),
        kind=kind,
        standing=fold((_act(one.statement) for one in about), keep_until),
        previous=about[-1].record.statement_id,
    )


class StillAllowed(msgspec.Struct, frozen=True, kw_only=True, tag="retention_allowed"):
    """What is stated must be allowed as of the entries before it: another step may have come.

    Attributes:
        log: id of the log.
        capture: whose content it is about.
        keep_until: until when its class keeps it, UTC; None where it has none.
        lease: of the work that states it; None where a person does.
    """

    log: str
    capture: str
    keep_until: datetime | None
    lease: Piece | None = None

    def check(self, connection: Connection, at: datetime, /) -> Callable[[Statement], None]:
        """Look where the content stands now."""
        if self.lease is not None and not still_leased(connection, [self.lease]):
            raise LeaseLost("Another worker has taken this work over.")
        standing = read_standing(connection, self.log, self.capture, self.keep_until)
        newest = newest_entry(connection, self.log)

        def check(statement: Statement) -> None:
            """Ask the rule of this step."""
            consider(standing, _act(statement), at, newest)

        return check


def read_standing(
    connection: Connection, log: str, capture: str, keep_until: datetime | None
) -> Standing:
    """Where a capture's content stands, as of what this connection sees.

    Args:
        connection: of a snapshot or transaction.
        log: id of the log.
        capture: its id.
        keep_until: until when its class keeps it, UTC.
    """
    about = _about(connection, log, capture)
    return fold((_act(one.statement) for one in about), keep_until)


def newest_entry(connection: Connection, log: str) -> datetime:
    """When the newest entry of a log was received, UTC; a clock before it is wrong."""
    last = select(func.max(record_rows.c.received_at)).where(record_rows.c.log == log)
    return cast("datetime", connection.execute(last).scalar_one())


def _about(connection: Connection, log: str, capture: str) -> Sequence[Logged]:
    found = records.records_about(connection, log, capture)
    return [with_text(connection, one) for one in found if one.kind in _KINDS]


def _act(statement: Statement) -> Act:
    body = statement.body
    event = str(body["event"]) if statement.kind == "custody" else statement.kind
    return Act(
        statement=statement.id,
        event=event,
        at=statement.made_at,
        actor=_text(body, "actor"),
        reference=_text(body, "reference"),
        request=_text(body, "request"),
        until=_until(statement),
        authority=_text(body, "authority"),
        reason=_text(body, "reason"),
    )


def _until(statement: Statement) -> datetime | None:
    until = statement.body.get("locked_until", statement.body.get("until"))
    return None if until is None else parse_time(str(until))


def _text(body: Mapping[str, JSONValue], name: str) -> str:
    return str(body.get(name, ""))

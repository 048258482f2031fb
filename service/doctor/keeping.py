"""What waits for people and for the calendar: retention that ended, holds that run, the last scrub.

Does: counts, and names the oldest date. Refuses to name captures or persons: the answer is shown to
whoever runs the doctor. A period that ended is no fault: people decide about disposal.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from evidence.errors import EvidenceError
from evidence.schema import format_time, parse_time
from evidence.statement import Statement, parse_statement
from service.deployment_file import Deployment, OrganSettings
from service.doctor.diagnosis import Findings, noted, passed
from service.law.retention import Standing
from service.retention.standing import read_standing
from service.scrub.last import first_stored, last_scrub
from service.settings import Settings
from storage import records
from storage.db.engine import Database
from storage.db.tables import records as record_rows


def check_keeping(
    settings: Settings, deployment: Deployment, db: Database, at: datetime
) -> Findings:
    """Which periods have ended unasked, which holds run, and whether scrubs are made."""
    with db.read() as connection:
        standings = [
            standing
            for organ in deployment.organs
            for log in organ.logs
            for standing in _standings(connection, deployment, log.id)
        ]
        yield from _ended(standings, at)
        held = sum(bool(one.holds) for one in standings)
        if held:
            yield noted("retention.holds", f"Legal holds run on {held} captures.")
        for organ in deployment.organs:
            yield from _scrubbed(settings, connection, organ, at)


def _ended(standings: Sequence[Standing], at: datetime) -> Findings:
    """Content that could be disposed of, and for which nobody has asked it."""
    ends = sorted(
        one.expires_at
        for one in standings
        if one.expires_at is not None
        and one.expires_at <= at
        and not (one.holds or one.request or one.begun or one.disposed)
    )
    if ends:
        yield noted(
            "retention.ended",
            f"The retention of {len(ends)} captures has ended and nobody has requested their"
            f" disposal, the oldest since {format_time(ends[0])}.",
        )
    else:
        yield passed("retention.ended", "No retention has ended without a request for disposal.")


def _standings(connection: Connection, deployment: Deployment, log: str) -> list[Standing]:
    """Of each capture of a log whose content has a class of retention, a lock or a hold."""
    days = {one.name: one.keep_days for one in deployment.retention_classes}
    until: dict[str, datetime | None] = {}
    query = (
        select(record_rows.c.idx, record_rows.c.subject)
        .where(record_rows.c.log == log, record_rows.c.kind.in_(("stored", "custody")))
        .order_by(record_rows.c.idx)
    )
    for row in connection.execute(query).all():
        said = _read(connection, log, row.idx)
        if said is None:
            continue
        name = said.body.get("retention_class")
        if said.kind == "stored" and name in days:
            received = parse_time(str(said.body["received_at"]))
            until[row.subject] = received + timedelta(days=days[str(name)])
        elif "locked_until" in said.body or said.body.get("event") in {"held", "retained"}:
            until.setdefault(row.subject, None)
    return [read_standing(connection, log, capture, end) for capture, end in until.items()]


def _read(connection: Connection, log: str, index: int) -> Statement | None:
    try:
        return parse_statement(records.text_at(connection, log, index) or b"")
    except EvidenceError:
        return None  # fsck names it


def _scrubbed(
    settings: Settings, connection: Connection, organ: OrganSettings, at: datetime
) -> Findings:
    name, logs = "objects.scrubbed", [log.id for log in organ.logs]
    last = last_scrub(connection, logs)
    since = last or first_stored(connection, logs)
    if not settings.scrub_every_s:
        yield noted(name, "No scrub is made by itself: FENGNI_SCRUB_EVERY_S is 0.")
    elif since is None:
        return
    elif at > since + 2 * timedelta(seconds=settings.scrub_every_s):
        told = "none has ended" if last else "none was made, and content is kept,"
        yield noted(name, f"{organ.id} is overdue for a scrub: {told} since {format_time(since)}.")
    elif last is not None:
        yield passed(name, f"The last scrub of {organ.id} ended at {format_time(last)}.")

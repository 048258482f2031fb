"""`fengni db verify`: the database recomputed from log and store, every difference named.

1. The log's published files are read back and proven by its signed checkpoint.
2. In one snapshot of the database, each bundle's rows are compared with what the files prove:
   `records`, `texts`, `public_keys`, `checkpoints`, and the row in `logs`. The leaves of the
   unpublished second are proven by the newest signed checkpoint instead.
3. What only the database has proves itself or not: cosignatures and time-stamps.
4. Rows of work that follow from the log are compared: `uploads`, and what `outbox` must hold.
5. Head and witnesses are asked whether they have seen more than the database has.

Does: says of each difference which side is believed, and counts what nobody can recompute. Refuses
to repair: `fengni db rebuild` makes a new database. A server may run meanwhile.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from evidence.errors import EvidenceError
from service.context import log_stores, open_heads
from service.data_keys import open_keys
from service.deployment_file import LogSettings, OrganSettings, database_url, read_deployment
from service.settings import Settings, SettingsInvalid
from service.transparency.confirming import ask_witnesses
from service.truth.attested import Parties, check_attested, parties_of
from service.truth.course import Courses
from service.truth.worked import compare_work
from storage.db.engine import Database
from storage.db.tables import exports, records, tokens, views
from storage.errors import StorageError
from storage.log import LogStores
from storage.log.comparing import (
    FILES,
    Believed,
    Difference,
    compare_bundle,
    compare_ends,
    compare_log_row,
    compare_strays,
    judge_faults,
    rows_of,
    table_keys,
)
from storage.log.readback import ReadLog
from storage.log.rows import newest_size

MOST_LISTED = 1000
"""So many differences of one log are listed; the rest is counted."""

_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, SQLAlchemyError)


@dataclass(slots=True, kw_only=True)
class Verified:
    """One log, or what no log has, and where the database differs.

    Attributes:
        log: its id in addresses, or `-` for rows of no log.
        origin: its name in checkpoints.
        published: how many entries the files prove.
        unpublished: how many more the database has.
        differences: the first `MOST_LISTED`.
        counts: how many there are by table and kind.
        alone: rows that nobody can recompute, by table.
    """

    log: str
    origin: str = ""
    published: int = 0
    unpublished: int = 0
    differences: list[Difference] = field(default_factory=list[Difference])
    counts: Counter[str] = field(default_factory=Counter[str])
    alone: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, one: Difference) -> None:
        """Note a difference."""
        self.counts[f"{one.table} {one.kind}"] += 1
        if len(self.differences) < MOST_LISTED:
            self.differences.append(one)

    def document(self) -> dict[str, object]:
        """The same as JSON."""
        return {
            "log": self.log,
            "origin": self.origin,
            "published": self.published,
            "unpublished": self.unpublished,
            "counts": dict(sorted(self.counts.items())),
            "only_in_database": self.alone,
            "differences": [
                {
                    "table": one.table,
                    "key": one.key,
                    "column": one.column,
                    "kind": one.kind,
                    "believed": one.believed,
                    "why": one.why,
                }
                for one in self.differences
            ],
        }


def verify_database(settings: Settings, organ: str | None = None) -> list[Verified]:
    """Do the steps of the module for every log, those that have ended too.

    Args:
        settings: of the deployment.
        organ: only this organ's logs; rows of no log are then not looked for.

    Raises:
        SettingsInvalid: it is no deployment, or has no such organ.
        StorageError: the database or the store of the keys is not there.
    """
    deployment = read_deployment(settings)
    organs = [one for one in deployment.organs if organ in (None, one.id)]
    if not organs:
        raise SettingsInvalid(f"The deployment has no organ {organ}.")
    found: list[Verified] = []
    with (
        closing(Database(database_url(settings, deployment))) as db,
        open_keys(settings, deployment) as texts,
        open_heads(settings, deployment) as heads,
    ):
        db.require_schema()
        for one in organs:
            for log in one.logs:
                stores = log_stores(settings, log, db, texts, heads)
                found.append(_verify(settings, one, log, stores))
        if organ is None:
            known = [log.id for one in organs for log in one.logs]
            found.append(_verify_rest(db, known))
    return found


def _verify(
    settings: Settings, organ: OrganSettings, log: LogSettings, stores: LogStores
) -> Verified:
    result = Verified(log=log.id, origin=log.origin)
    try:
        _compare(settings, organ, log, stores, result)
    except (StorageError, EvidenceError) as fault:  # of one log: the others are looked at
        result.add(_of_log(log.id, "walk", "neither", f"{fault.code}: {fault.detail}"))
    except _DAMAGE as fault:
        result.add(_of_log(log.id, "walk", "neither", f"damaged: {type(fault).__name__}"))
    return result


def _compare(
    settings: Settings,
    organ: OrganSettings,
    log: LogSettings,
    stores: LogStores,
    result: Verified,
) -> None:
    head = _head_size(stores, result)
    parties = parties_of(settings, organ, log)
    read = ReadLog(stores, parties.log_keys)  # 1
    result.published = read.size
    with closing(Courses()) as courses, stores.db.read() as connection:
        newest = newest_size(connection, log.id) or 0
        result.unpublished = max(0, newest - read.size)
        for one in _rolled_back(log.id, newest, head, read.size):
            result.add(one)
        for one in chain(
            _compare_rows(connection, read, parties, newest, courses),  # 2
            check_attested(connection, parties),  # 3
            compare_work(connection, log.id, courses),  # 4
        ):
            result.add(one)
        result.alone = table_keys(connection, log.id)
    if log == organ.log:
        for one in _witnessed(organ, parties, stores, newest):  # 5
            result.add(one)


def _compare_rows(
    connection: Connection, read: ReadLog, parties: Parties, newest: int, courses: Courses
) -> Iterator[Difference]:
    """Step 2, and what follows from it at the log's ends; fills the courses."""
    log, seen = parties.log, set[str]()
    # A damaged checkpoint may claim any size: the walk ends where the rows do.
    last = connection.execute(select(func.max(records.c.idx)).where(records.c.log == log)).scalar()
    newest = min(newest, 0 if last is None else last + 1)
    for bundle in chain(read.bundles(connection), read.tail(connection, newest)):
        if 0 in bundle.checkpoints or (bundle.first == 0 and bundle.published):
            first = bundle.checkpoints.get(0)
            made_at = first.committed_at if first is not None and read.size else None
            yield from compare_log_row(connection, log, parties.organ, parties.origin, made_at)
        yield from judge_faults(connection, bundle, log, parties.log_keys)
        expected = rows_of(bundle, log, parties.organ, seen)
        yield from compare_bundle(connection, bundle, log, expected)
        courses.take(bundle)
    yield from compare_ends(connection, log, max(newest, read.size), seen)


def _head_size(stores: LogStores, result: Verified) -> int:
    try:
        return stores.heads.read().size
    except StorageError as fault:
        result.add(_of_log(stores.log_id, "head", "neither", f"{fault.code}: {fault.detail}"))
        return 0


def _rolled_back(log: str, newest: int, head: int, published: int) -> Iterator[Difference]:
    """Step 5 for what lies here."""
    if newest < published:
        why = f"the log published {published} entries and the database ends at {newest}"
        yield _put_back(log, newest, "log", why)
    if head > newest:
        why = f"{head} entries were answered for, and the database ends at {newest}"
        yield _put_back(log, newest, "head", why)


def _witnessed(
    organ: OrganSettings, parties: Parties, stores: LogStores, newest: int
) -> Iterator[Difference]:
    """Step 5 for those outside; one that does not answer says nothing."""
    policy = None if not organ.witnesses else parties.policy
    heard = ask_witnesses(organ, tuple(parties.log_keys), policy, stores.db)
    for answer in heard.answers:
        if answer.size > newest:
            why = f"witness {answer.witness} saw {answer.size} entries, the database has {newest}"
            yield _put_back(parties.log, newest, "witness", why)


def _put_back(log: str, newest: int, believed: Believed, why: str) -> Difference:
    return Difference(
        table="checkpoints",
        key=f"{log} {newest}",
        column=None,
        kind="missing",
        believed=believed,
        why=f"rolled_back: {why}",
    )


def _of_log(log: str, place: str, believed: Believed, why: str) -> Difference:
    return Difference(
        table=FILES, key=f"{log} {place}", column=None, kind="damaged", believed=believed, why=why
    )


def _verify_rest(db: Database, known: list[str]) -> Verified:
    """Rows of no log of the deployment, and how much work is in nobody's log."""
    result = Verified(log="-")
    with db.read() as connection:
        for one in compare_strays(connection, known):
            result.add(one)
        result.alone = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (tokens, exports, views)
        }
    return result

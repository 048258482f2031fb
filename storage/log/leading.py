"""Who sequences a log, where several nodes could: one at a time, and a paused one cannot come back.

    leaders   log        epoch   node              until
              demo-2026  7       web-2 pid 4711    5 s from now, by the database's clock

Whoever finds no leader, or one whose time has run out, takes the log over with the next *epoch*
and keeps it by moving `until` on. The time only says when others may try. What keeps two nodes
from writing is the epoch: each transaction of the log compares it, and holds the row until it
commits, so after a take-over the former leader's next transaction ends in `LeadershipLost`,
however long it was stopped and wherever. A transaction in which it was stopped is ended by the
server (`storage.db.postgres.IDLE_TIMEOUT_MS`) before the take-over can happen.

Does: takes, keeps, gives back and checks. Refuses to take a log whose leader is alive. On a SQLite
file it does nothing: there the kernel's lock on the head's folder decides.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from storage.db.engine import Database
from storage.db.tables import leaders
from storage.errors import LeadershipLost, StorageError, Unavailable
from storage.log.submission import LogStores

LEASE_S = 5.0
"""How long a leader that says nothing is waited for."""

_RENEWALS = 4
"""In each lease, so that a slow answer or two cost nothing."""

_PAUSE_S = 0.2
"""Between two attempts to take a log over."""

_NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_TAKE = text(f"""
INSERT INTO leaders (log, epoch, node, until, channel, taking)
VALUES (:log, 1, :node, {_NOW_MS} + :lease_ms, :channel, :taking)
ON CONFLICT (log) DO UPDATE
SET epoch = leaders.epoch + 1, node = excluded.node, until = excluded.until,
    channel = excluded.channel, taking = excluded.taking
WHERE leaders.until <= {_NOW_MS}
RETURNING epoch
""")  # noqa: S608 - the clock's expression is ours
_KEEP = text(f"""
UPDATE leaders SET until = {_NOW_MS} + :lease_ms, taking = :taking
WHERE log = :log AND epoch = :epoch
RETURNING epoch
""")  # noqa: S608 - the clock's expression is ours
_STANDING = text(f"""
SELECT node, channel, epoch, taking, (until - {_NOW_MS}) / 1000.0 AS left_s
FROM leaders WHERE log = :log
""")  # noqa: S608 - the clock's expression is ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Somebody who would lead a log.

    Attributes:
        node: for people who ask who leads, at most 128 characters.
        wait_s: how long another leader is waited for, which may have died a moment ago.
        channel: where this process listens for others; empty where it does not.
    """

    node: str = "a process"
    wait_s: float = 0.0
    channel: str = ""


ALONE = Candidate()
"""For whoever has the only process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who leads a log, as its row says.

    Attributes:
        node: for people.
        channel: where the leader is woken.
        epoch: of its term.
        taking: whether it signs: enough witnesses were heard.
        left_s: seconds until others may try, by the database's clock; 0 or less: they may.
    """

    node: str
    channel: str
    epoch: int
    taking: bool
    left_s: float


class Leadership:
    """One node's time at the head of one log."""

    def __init__(self, db: Database, log: str, epoch: int | None, *, taking: bool = True) -> None:
        """Taken by `lead`; without an epoch there is nobody to compete with."""
        self._db = db
        self._log = log
        self.epoch = epoch
        self._taking = taking
        self._ended = threading.Event()
        self._lost: Exception | None = None
        self._told: Callable[[Exception], None] = lambda _reason: None
        self._thread: threading.Thread | None = None

    def require(self, connection: Connection) -> None:
        """Demand that no other node took over, until the transaction ends.

        Raises:
            LeadershipLost: one did.
        """
        if self.epoch is not None:
            query = select(leaders.c.epoch).where(leaders.c.log == self._log)
            self._compare(connection.execute(query.with_for_update()).scalar_one_or_none())

    def require_now(self) -> None:
        """Demand that no other node has taken over so far.

        Raises:
            LeadershipLost: one did.
            Unavailable: the database does not answer.
        """
        if self.epoch is not None:
            with self._db.read() as connection:
                query = select(leaders.c.epoch).where(leaders.c.log == self._log)
                self._compare(connection.execute(query).scalar_one_or_none())

    def start(self) -> None:
        """Keep it from now on, in a thread."""
        if self.epoch is not None:
            self._thread = threading.Thread(target=self._keep, name="log-leader", daemon=True)
            self._thread.start()

    def tell(self, told: Callable[[Exception], None]) -> None:
        """Name who is told, with the reason, when another node took over; perhaps at once.

        Args:
            told: may be called more than once, in any thread.
        """
        self._told = told
        if self._lost is not None:
            told(self._lost)

    def take(self) -> None:
        """Tell the other nodes that statements are taken from now on; again when it is renewed."""
        if self.epoch is not None and not self._taking:
            self._taking = True
            with suppress(StorageError):
                self._renew(LEASE_S)

    def end(self) -> None:
        """Give it back, so that the next node need not wait."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self.epoch is not None:
            with suppress(StorageError):  # then its time runs out by itself
                self._renew(0.0)

    def _keep(self) -> None:
        while not self._ended.wait(LEASE_S / _RENEWALS):
            try:
                self._renew(LEASE_S)
            except LeadershipLost as reason:
                self._lost = reason
                self._told(reason)
                return
            except StorageError:  # tried again; whether it was too late, the epoch will say
                continue

    def _renew(self, lease_s: float) -> None:
        with self._db.write(f"leader {self._log}") as connection:
            kept = {
                "log": self._log,
                "epoch": self.epoch,
                "lease_ms": int(lease_s * 1000),
                "taking": self._taking,
            }
            if connection.execute(_KEEP, kept).scalar_one_or_none() is None:
                raise _lost()

    def _compare(self, epoch: int | None) -> None:
        if epoch != self.epoch:
            raise _lost()


@contextmanager
def lead(
    stores: LogStores, candidate: Candidate, *, taking: bool = True
) -> Generator[Leadership, None, None]:
    """Lead a log for the length of the block.

    Args:
        stores: of the log.
        candidate: who would lead it.
        taking: whether statements are taken from the first moment on.

    Raises:
        Unavailable: another node leads it, or the database does not answer.
    """
    leadership = Leadership(stores.db, stores.log_id, None, taking=taking)
    if stores.db.path is None:
        leadership.epoch = _take_in_time(stores, candidate, taking=taking)
    leadership.start()
    try:
        yield leadership
    finally:
        leadership.end()


def standing(db: Database, log: str) -> Standing | None:
    """Who leads a log now, or led it last; None before the first.

    Raises:
        Unavailable: the database does not answer.
    """
    with db.read() as connection:
        row = connection.execute(_STANDING, {"log": log}).first()
    if row is None:
        return None
    return Standing(
        node=row.node,
        channel=row.channel,
        epoch=row.epoch,
        taking=row.taking,
        left_s=float(row.left_s),
    )


def _take_in_time(stores: LogStores, candidate: Candidate, *, taking: bool) -> int:
    end = time.monotonic() + candidate.wait_s
    while True:
        try:
            return _take(stores, candidate, taking=taking)
        except Unavailable:
            if time.monotonic() >= end:
                raise
        time.sleep(_PAUSE_S)


def _take(stores: LogStores, candidate: Candidate, *, taking: bool) -> int:
    with stores.db.write(stores.turn) as connection:
        wanted = {
            "log": stores.log_id,
            "node": candidate.node,
            "lease_ms": int(LEASE_S * 1000),
            "channel": candidate.channel,
            "taking": taking,
        }
        epoch = connection.execute(_TAKE, wanted).scalar_one_or_none()
    if epoch is None:
        raise Unavailable("another process has this log open")
    return int(epoch)


def _lost() -> LeadershipLost:
    return LeadershipLost("another node took this log over")

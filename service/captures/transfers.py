"""Who is receiving which content now, over all nodes: at most one transfer of a capture at a time.

    transfers   log        capture   owner               until
                demo-2026  5d3f…     9b1c…/7f3e…         6 s from now, by the database's clock

Does: claims a capture for this process, keeps all its claims with one statement every second and a
half, lets a claim be taken over whose process said nothing for six seconds, and lets go at a start
of what this node's process before it had claimed: its senders are about to try again. Refuses to be
a fence: a process that was paused so long may finish beside its successor, and what both have
brought is compared by digest and noted once. On a SQLite file there is one process, and memory
says it.
"""

import threading
from contextlib import suppress

from sqlalchemy import text

from service.logs import get_logger
from storage.db.engine import Database
from storage.errors import StorageError

LEASE_S = 6.0
"""How long a process that says nothing is waited for."""

_RENEWALS = 4
_TURN = "transfers"
_NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_CLAIM = text(f"""
INSERT INTO transfers (log, capture, owner, until)
VALUES (:log, :capture, :owner, {_NOW_MS} + :lease_ms)
ON CONFLICT (log, capture) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE transfers.until <= {_NOW_MS}
RETURNING owner
""")  # noqa: S608 - the clock's expression is ours
_KEEP = text(f"UPDATE transfers SET until = {_NOW_MS} + :lease_ms WHERE owner = :owner")  # noqa: S608
_LEFT = text("DELETE FROM transfers WHERE starts_with(owner, :node) AND owner <> :owner")
_RELEASE = text("DELETE FROM transfers WHERE log = :log AND capture = :capture AND owner = :owner")
_LIVE = text(f"SELECT 1 FROM transfers WHERE capture = :capture AND until > {_NOW_MS}")  # noqa: S608
_FORGET = text(f"DELETE FROM transfers WHERE until <= {_NOW_MS} - :lease_ms")  # noqa: S608
# A claim that a crash of the server forgets is claimed again: nobody waits for a disk here.
_NO_SYNC = "SET LOCAL synchronous_commit TO OFF"
_log = get_logger("transfers")


class Transfers:
    """The claims of one process."""

    def __init__(self, db: Database, node: str, process: str) -> None:
        """Prepare; `start` begins to keep claims.

        Args:
            db: the database that all nodes share.
            node: the same for every process of this node, of which one lives at a time; no slash.
            process: unique to this process; at most 127 characters with the node.
        """
        self._db = db
        self._node = f"{node}/"
        self._owner = self._node + process
        self._turn = threading.Lock()
        self._held: set[tuple[str, str]] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="transfers", daemon=True)

    @property
    def shared(self) -> bool:
        """Whether other nodes may receive content of the same logs."""
        return self._db.path is None

    def start(self) -> None:
        """Let go of what the process before this one had claimed, and keep claims from now on.

        Raises:
            Unavailable: the database does not answer.
        """
        if self.shared:
            with self._db.write(_TURN) as connection:
                connection.execute(_LEFT, {"node": self._node, "owner": self._owner})
            self._thread.start()

    def close(self) -> None:
        """Keep nothing more; claims that were not released run out."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def claim(self, log: str, capture: str) -> bool:
        """Claim a capture; False where it is claimed, here or on a node that is alive.

        Raises:
            Unavailable: the database does not answer.
        """
        place = (log, capture)
        with self._turn:
            if place in self._held:
                return False
            self._held.add(place)
        try:
            mine = not self.shared or self._claim(log, capture)
        except BaseException:
            self._forget(place)
            raise
        if not mine:
            self._forget(place)
        return mine

    def release(self, log: str, capture: str) -> None:
        """Give a claim back; where the database does not answer it runs out by itself."""
        self._forget((log, capture))
        if self.shared:
            with suppress(StorageError), self._db.write(_TURN) as connection:
                connection.exec_driver_sql(_NO_SYNC)
                released = {"log": log, "capture": capture, "owner": self._owner}
                connection.execute(_RELEASE, released)

    def is_live(self, capture: str) -> bool:
        """Whether somebody is receiving a capture's content now, on whatever node.

        Raises:
            Unavailable: the database does not answer.
        """
        with self._turn:
            if any(held == capture for _, held in self._held):
                return True
        if not self.shared:
            return False
        with self._db.read() as connection:
            return connection.execute(_LIVE, {"capture": capture}).first() is not None

    def forget_dead(self) -> None:
        """Remove claims that ran out long ago, whoever made them.

        Raises:
            Unavailable: the database does not answer.
        """
        if self.shared:
            with self._db.write(_TURN) as connection:
                connection.execute(_FORGET, {"lease_ms": int(LEASE_S * 1000)})

    def _claim(self, log: str, capture: str) -> bool:
        wanted = {
            "log": log,
            "capture": capture,
            "owner": self._owner,
            "lease_ms": int(LEASE_S * 1000),
        }
        with self._db.write(_TURN) as connection:
            connection.exec_driver_sql(_NO_SYNC)
            return connection.execute(_CLAIM, wanted).first() is not None

    def _forget(self, place: tuple[str, str]) -> None:
        with self._turn:
            self._held.discard(place)

    def _keep(self) -> None:
        while not self._closing.wait(LEASE_S / _RENEWALS):
            with self._turn:
                if not self._held:
                    continue
            try:
                with self._db.write(_TURN) as connection:
                    connection.exec_driver_sql(_NO_SYNC)
                    kept = {"owner": self._owner, "lease_ms": int(LEASE_S * 1000)}
                    connection.execute(_KEEP, kept)
            except StorageError as error:  # the next renewal may come in time
                _log.warning("transfers_not_kept", code=error.code)

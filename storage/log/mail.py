"""The work table through which statements reach the node that leads their log, and answers return.

    announcements   id  log        channel        request   answered  answer
                    71  demo-2026  fengni_41ac…   4 items   no

A row belongs to the node that wrote it, which takes it away with its answer. Nothing in it was
answered for to anybody outside: the table is not logged and its commits wait for no disk. What a
crash of the server takes, its node writes again; what is written twice is logged once, because a
log has each statement once.

Does: writes, takes, answers and removes rows, each in one statement, with its notice. Refuses to
say what is in them: the leader verifies every signature again.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg

from storage.db.engine import Database
from storage.db.postgres import session_errors

KEPT_S = 60
"""A row that is older has no node that waits for it."""

TAKEN_AT_ONCE = 64
_NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_ASK = f"""
WITH asked AS (
    INSERT INTO announcements (log, channel, request, asked_at)
    SELECT %(log)s, %(mine)s, one.request, {_NOW_MS}
    FROM unnest(%(requests)s::bytea[]) WITH ORDINALITY AS one (request, place)
    ORDER BY one.place
    RETURNING id)
SELECT array_agg(id ORDER BY id), pg_notify(%(leader)s, %(log)s) FROM asked
"""  # noqa: S608 - the clock's expression is ours
_TAKE = """
SELECT id, request, channel, asked_at FROM announcements
WHERE log = %(log)s AND NOT answered AND id <> ALL (%(taken)s) ORDER BY id LIMIT %(most)s
"""
_ANSWER = """
WITH given AS (
    UPDATE announcements SET answered = true, answer = one.answer, request = ''
    FROM unnest(%(ids)s::bigint[], %(answers)s::bytea[], %(channels)s::text[], %(times)s::bigint[])
        AS one (id, answer, channel, asked_at)
    WHERE announcements.id = one.id AND NOT announcements.answered
        AND announcements.channel = one.channel AND announcements.asked_at = one.asked_at
    RETURNING announcements.channel)
SELECT pg_notify(channel, %(log)s) FROM (SELECT DISTINCT channel FROM given) AS told
"""
_COLLECT = """
DELETE FROM announcements WHERE channel = %(mine)s AND answered AND log = %(log)s
RETURNING id, answer
"""
_MISSING = """
SELECT one.id FROM unnest(%(ids)s::bigint[]) AS one (id)
WHERE NOT EXISTS (
    SELECT FROM announcements WHERE announcements.id = one.id AND channel = %(mine)s)
"""
_DROP = "DELETE FROM announcements WHERE id = ANY (%(ids)s)"
_SWEEP = f"DELETE FROM announcements WHERE log = %(log)s AND asked_at < {_NOW_MS} - {KEPT_S * 1000}"  # noqa: S608


class Letter(NamedTuple):
    """A row's id with its request or its answer, and whose it is.

    A crash of the server may count ids from the beginning again, so a leader answers a row that has
    also the channel and the time that it took.
    """

    id: int
    content: bytes
    channel: str = ""
    asked_at: int = 0


class Mail:
    """One thread's hold on the rows of one log; connects when needed, and again after a fault."""

    def __init__(self, db: Database, log: str, channel: str) -> None:
        """Prepare; nothing is asked yet.

        Args:
            db: on a server.
            log: id of the log.
            channel: of this process, where answers are announced.
        """
        self._db = db
        self._log = log
        self._channel = channel
        self._session: psycopg.Connection[tuple[Any, ...]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(psycopg.Error):
                session.close()

    def ask(self, requests: Sequence[bytes], leader: str) -> list[int]:
        """Write requests and wake the leader.

        Args:
            requests: at least one, in their order.
            leader: the channel where the leader listens; may be out of date.

        Returns:
            The rows' ids, in the same order, which is the order in which they are taken.

        Raises:
            Unavailable: the server does not answer; they may be written.
        """
        [row] = self._run(
            _ASK,
            {"requests": list(requests), "mine": self._channel, "leader": leader or "fengni"},
        )
        return list(row[0])

    def take(self, taken: Sequence[int]) -> list[Letter]:
        """Some of the requests that wait, oldest first, without those that were taken before.

        Raises:
            Unavailable: the server does not answer.
        """
        rows = self._run(_TAKE, {"taken": list(taken), "most": TAKEN_AT_ONCE})
        return [Letter(*row) for row in rows]

    def answer(self, letters: Sequence[Letter]) -> None:
        """Answer requests and wake the nodes that wait; one that is gone is passed over.

        Raises:
            Unavailable: the server does not answer; it may be done.
        """
        values: dict[str, object] = {
            "ids": [one.id for one in letters],
            "answers": [one.content for one in letters],
            "channels": [one.channel for one in letters],
            "times": [one.asked_at for one in letters],
        }
        self._run(_ANSWER, values)

    def collect(self) -> list[Letter]:
        """Take this process's answers away.

        Raises:
            Unavailable: the server does not answer; they may be gone.
        """
        return [Letter(*row) for row in self._run(_COLLECT, {"mine": self._channel})]

    def missing(self, ids: Sequence[int]) -> list[int]:
        """Those of this process's rows that are not there.

        Raises:
            Unavailable: the server does not answer.
        """
        return [row[0] for row in self._run(_MISSING, {"ids": list(ids), "mine": self._channel})]

    def drop(self, ids: Sequence[int]) -> None:
        """Remove rows for which nobody waits any more.

        Raises:
            Unavailable: the server does not answer.
        """
        self._run(_DROP, {"ids": list(ids)})

    def sweep(self) -> None:
        """Remove what dead nodes left.

        Raises:
            Unavailable: the server does not answer.
        """
        self._run(_SWEEP, {})

    def _run(self, order: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
        with self._connected() as session:
            done = session.execute(order.encode(), {"log": self._log, **values})
            return done.fetchall() if done.description else []

    @contextmanager
    def _connected(self) -> "Generator[psycopg.Connection[tuple[Any, ...]], None, None]":
        if self._session is None or self._session.closed:
            self._session = self._db.session()
        try:
            with session_errors():
                yield self._session
        except Exception:
            self.close()
            raise

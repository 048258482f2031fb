"""Who is alive: each process that works writes a row, again and again.

Does: keeps this process's row by the database's own clock, so that no node's clock decides who is
dead, and says which processes have spoken lately. Refuses to believe a process for longer than
`DEAD_AFTER_S` after its last word; what a process does that was taken for dead by mistake, the
leases of its work refuse.

    a worker is killed            0 s
    its row is taken for stale    ≤ 6 s after its last word
    its workflows are resumed     ≤ 1 s later, by any other worker: within two heartbeats (8 s)
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from storage.db.engine import Database
from storage.db.tables import Moment

HEARTBEAT_S = 4.0
"""So often a process writes its row."""

DEAD_AFTER_S = 6.0
"""After so long without a word it is taken for dead."""

_KEPT_S = 3600.0
"""A dead process's row stays so long for people to see."""

_NOW_MS = {
    "postgresql": "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One start of one process.

    Attributes:
        executor: unique to it; its workflows carry it.
        kind: `web` where it serves too, else `worker`.
        host: for people.
    """

    executor: str
    kind: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a process.

    Attributes:
        node: which.
        started_at: by the database's clock.
        silent_s: since its last word.
    """

    node: Node
    started_at: datetime
    silent_s: float

    @property
    def alive(self) -> bool:
        """Whether it spoke lately."""
        return self.silent_s < DEAD_AFTER_S


def beat(db: Database, node: Node) -> None:
    """Write this process's row, and drop those of the long dead.

    Raises:
        Unavailable: the database does not answer.
    """
    with db.write(f"node {node.executor}") as connection:
        now = _NOW_MS[connection.dialect.name]
        values = {
            "executor": node.executor,
            "kind": node.kind,
            "host": node.host,
            "kept_ms": int(_KEPT_S * 1000),
        }
        connection.execute(
            text(
                "INSERT INTO nodes (executor, kind, host, started_at, seen_at)"  # noqa: S608 - the clock's expression is ours
                f" VALUES (:executor, :kind, :host, {now}, {now})"
                " ON CONFLICT (executor) DO UPDATE SET seen_at = excluded.seen_at"
            ),
            values,
        )
        connection.execute(
            text(f"DELETE FROM nodes WHERE seen_at < {now} - :kept_ms"),  # noqa: S608 - as above
            values,
        )


def leave(db: Database, executor: str | None = None) -> None:
    """Remove a process's row, because it ends; or every row, where no other process can be.

    Raises:
        Unavailable: the database does not answer.
    """
    with db.write("nodes") as connection:
        only = "" if executor is None else " WHERE executor = :executor"
        connection.execute(text(f"DELETE FROM nodes{only}"), {"executor": executor})  # noqa: S608


def seen_nodes(connection: Connection) -> list[Seen]:
    """Every process that has a row, longest silent last."""
    now = _NOW_MS[connection.dialect.name]
    rows = connection.execute(
        text(
            "SELECT executor, kind, host, started_at,"  # noqa: S608 - as above
            f" {now} - seen_at AS silent_ms FROM nodes ORDER BY seen_at DESC"
        ).columns(started_at=Moment())
    )
    return [
        Seen(
            node=Node(executor=row.executor, kind=row.kind, host=row.host),
            started_at=row.started_at,
            silent_s=max(0, row.silent_ms) / 1000,
        )
        for row in rows
    ]

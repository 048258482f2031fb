"""The workflow engine in this process: DBOS, its MIT part alone, over the database of the outbox.

    1. this process's row says that it is alive
    2. DBOS is launched under an executor id that no other start ever had
    3. it takes workflows from one queue; the workflow of a batch calls the slice's function
    4. due pieces are handed over; dead processes are looked for

Does: runs one workflow for each batch or case, never for each upload. A workflow has no steps of
its own: what is done of it is told, piece by piece, by the outbox, in the transactions of the
results; so it may be run again at any time. Refuses pickles (arguments are JSON), a schema that it
would have to make, a second engine in the process, and every part of DBOS that is not free.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from sqlalchemy import Connection, Engine

from service.logs import get_logger
from service.work.handing import Handing
from service.work.nodes import Node, beat, leave
from service.work.sweeping import Sweeping
from service.work.worker import Task, Terms, Worker
from storage.db.workflows import SCHEMA, open_workflows

APPLICATION = "fengni"
VERSION = "1"
"""Of the workflows' arguments: processes of another version leave each other's workflows alone."""

WORKFLOW = "batch"
QUEUE = "fengni"
"""One for every kind: each queue is asked for work as often as the most urgent one must be."""

POLL_S = 0.2
"""So often an idle worker asks; people wait for content to be sealed."""

_DRAIN_POLL_S = 0.02
_DRAIN_S = 60.0
_THREADS_BESIDE = 4
_one = threading.Lock()  # DBOS is one to a process, and says nothing when it is asked for another
_log = get_logger("engine")


class EngineBusy(RuntimeError):
    """This process runs an engine already; a process works for one deployment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Where an engine is at home.

    Attributes:
        url: of the database.
        node: this process.
        kept_s: how long workflows that ended stay for people to see.
        alone: whether no other process can be at work: whoever has a row is dead then.
        new_id: a fresh id.
    """

    url: str
    node: Node
    kept_s: int
    alone: bool
    new_id: Callable[[], str]


class WorkEngine:
    """One process's part in the work."""

    def __init__(self, house: House, tasks: Sequence[Task], terms: Terms) -> None:
        """Prepare; `start` begins.

        Args:
            house: where it is.
            tasks: every kind of work that is done here.
            terms: of this process.
        """
        self._house = house
        self._terms = terms
        self._closing = threading.Event()
        self._workers = {task.kind: Worker(task, terms, self._closing) for task in tasks}
        self._running = dict.fromkeys(self._workers, 0)
        self._counting = threading.Lock()
        self._connections = open_workflows(house.url)
        self._client = open_client(self._connections)
        self._handing = Handing(tasks, terms, self.enqueue, house.new_id, self._room)
        self._sweeping = Sweeping(terms, house.node, self._client, house.kept_s, self._handing.wake)

    @property
    def alive(self) -> bool:
        """Whether its threads run."""
        return self._handing.alive and self._sweeping.alive

    def wake(self) -> None:
        """There may be something to do."""
        self._handing.wake()

    def start(self) -> None:
        """Begin to work (1 to 4).

        Raises:
            EngineBusy: this process runs one already.
            StorageError: the database does not answer.
        """
        if not _one.acquire(blocking=False):
            raise EngineBusy("This process runs a workflow engine already.")
        try:
            if self._house.alone:
                leave(self._terms.db)
            beat(self._terms.db, self._house.node)  # 1
            self._launch()  # 2
        except BaseException:
            _end()
            raise
        DBOS.register_queue(  # 3
            QUEUE,
            worker_concurrency=self._slots,
            polling_interval_sec=POLL_S,
            on_conflict="always_update",
        )
        self._handing.start()  # 4
        self._sweeping.start()

    def enqueue(self, connection: Connection, kind: str, batch: str) -> None:
        """Enqueue the workflow of a batch in the caller's transaction."""
        enqueue(self._client, connection, kind, batch)

    def close(self) -> None:
        """Begin nothing new, finish what runs, and leave the rest to others."""
        self._handing.close()
        self._closing.set()
        self._sweeping.close()
        deadline = time.monotonic() + _DRAIN_S
        while any(self._running.values()) and time.monotonic() < deadline:
            time.sleep(_DRAIN_POLL_S)
        _end()
        self._client.destroy()
        self._connections.dispose()

    @property
    def _slots(self) -> int:
        return sum(worker.task.slots for worker in self._workers.values())

    def _room(self, kind: str) -> bool:
        return self._running[kind] < self._workers[kind].task.slots

    def _launch(self) -> None:
        _hush()
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self._house.url,
                "system_database_engine": self._connections,
                "dbos_system_schema": SCHEMA,
                "serializer": DBOSPortableJSONSerializer(),
                "application_version": VERSION,
                "executor_id": self._house.node.executor,
                "run_migrations": False,
                "enable_otlp": False,
                "log_level": "WARNING",
                "max_executor_threads": _THREADS_BESIDE + self._slots,
                "notification_listener_polling_interval_sec": 0.2,
            }
        )

        def batch(kind: str) -> None:
            """What a workflow does; DBOS takes functions, not methods."""
            self._batch(kind)

        DBOS.workflow(name=WORKFLOW)(batch)
        DBOS.listen_queues([QUEUE])
        DBOS.launch()

    def _batch(self, kind: str) -> None:
        """What a workflow does."""
        with self._counting:
            self._running[kind] += 1
        try:
            self._handing.wake()  # there is room for the next batch of the kind
            self._workers[kind].work(str(DBOS.workflow_id))
        finally:
            with self._counting:
                self._running[kind] -= 1
            self._handing.wake()


def open_client(connections: Engine) -> DBOSClient:
    """Whoever enqueues, looks and resumes without running anything."""
    return DBOSClient(
        system_database_engine=connections,
        dbos_system_schema=SCHEMA,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )


def enqueue(client: DBOSClient, connection: Connection, kind: str, batch: str) -> None:
    """Enqueue the workflow of a batch in the caller's transaction: with it, or not at all.

    Args:
        client: as opened.
        connection: in a write transaction of the same database.
        kind: of the work.
        batch: the workflow's id, as the pieces have it.
    """
    client.enqueue_in_transaction(
        connection,
        {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": batch,
            "app_version": VERSION,
        },
        kind,
    )


def _end() -> None:
    try:
        DBOS.destroy(destroy_registry=True)
    finally:
        _one.release()


def _hush() -> None:
    """What DBOS says goes to our log: its own lines have dynamic texts and another form."""
    theirs = logging.getLogger("dbos")
    if not any(isinstance(one, _Told) for one in theirs.handlers):
        theirs.handlers = [_Told()]
        theirs.propagate = False


class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Ids and places only; an error's own text may quote anything."""
        kind = record.exc_info[0] if record.exc_info else None
        _log.warning(
            "engine_told",
            level=record.levelname.lower(),
            place=f"{record.module}:{record.lineno}",
            error=None if kind is None else kind.__name__,
        )

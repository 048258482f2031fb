"""Looking after the others: what a dead process had is resumed, what ended is cleared away.

Does: says that this process is alive; while it holds the sweepers' lock, resumes the workflows of
processes that are dead, lets work wait again whose workflow is gone, and deletes workflows that
ended long ago. Refuses to judge others before it has itself spoken with the database for as long
as it would believe them.
"""

import fcntl
import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

from dbos import DBOSClient

from service.logs import get_logger
from service.work.nodes import DEAD_AFTER_S, HEARTBEAT_S, Node, beat, leave, seen_nodes
from service.work.queue import batches, take_back
from service.work.worker import Terms
from storage.db.engine import Database
from storage.errors import StorageError

SWEEP_S = 1.0
_PURGE_S = 60.0
_AT_ONCE = 500
_OPEN = frozenset({"ENQUEUED", "PENDING", "DELAYED"})
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_LOCK_KEY = int.from_bytes(hashlib.sha256(b"fengni sweep").digest()[:8], signed=True)
_log = get_logger("sweeping")


class Sweeping:
    """One thread of each process that works."""

    def __init__(
        self,
        terms: Terms,
        node: Node,
        client: DBOSClient,
        kept_s: int,
        freed: Callable[[], None],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            terms: of this process.
            node: this process.
            client: of the engine.
            kept_s: how long workflows that ended stay.
            freed: called when work waits again.
        """
        self._terms = terms
        self._node = node
        self._client = client
        self._kept = timedelta(seconds=kept_s)
        self._freed = freed
        self._closing = threading.Event()
        self._steady_since = -float("inf")
        self._beat_at = self._looked_at = self._purged_at = self._asked_at = -float("inf")
        self._buried: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="sweeping", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, and say so to the others."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
            try:
                leave(self._terms.db, self._node.executor)
            except StorageError as error:
                _log.warning("node_not_signed_off", exc_info=error)

    def sweep_once(self) -> int:
        """Resume what dead processes had; returns how many workflows.

        Nothing happens while another process sweeps.
        """
        with sweepers_lock(self._terms.db) as mine:
            if not mine:
                return 0
            resumed = self._resume()
            now = time.monotonic()
            if now >= self._looked_at + HEARTBEAT_S:
                self._looked_at = now
                self._take_back()
            if now >= self._purged_at + _PURGE_S:
                self._purged_at = now
                self.purge_once()
        return resumed

    def purge_once(self) -> int:
        """Delete workflows that ended long ago; returns how many."""
        before = (self._terms.clock() - self._kept).isoformat()
        deleted = 0
        while not self._closing.is_set():
            found = self._client.list_workflows(
                status=_ENDED,
                completed_before=before,
                limit=_AT_ONCE,
                load_input=False,
                load_output=False,
            )
            if found:
                self._client.delete_workflows([one.workflow_id for one in found])
            deleted += len(found)
            if len(found) < _AT_ONCE:
                break
        return deleted

    def _resume(self) -> int:
        with self._terms.db.read() as connection:
            seen = seen_nodes(connection)
        living = {one.node.executor for one in seen if one.alive}
        fresh = {one.node.executor for one in seen} - living - self._buried
        if not fresh and time.monotonic() < self._asked_at + HEARTBEAT_S:
            return 0  # nobody has died since the engine was asked
        self._asked_at = time.monotonic()
        pending = self._client.list_workflows(status="PENDING", load_input=False, load_output=False)
        lost: defaultdict[str, list[str]] = defaultdict(list)
        for one in pending:
            if one.executor_id not in living and one.queue_name is not None:
                lost[one.queue_name].append(one.workflow_id)
        for queue, ids in lost.items():
            self._client.resume_workflows(ids, queue_name=queue)
            _log.warning("workflows_resumed", queue=queue, count=len(ids))
        self._buried = {one.node.executor for one in seen} - living
        return sum(map(len, lost.values()))

    def _take_back(self) -> None:
        """Work of workflows that ended without it, or that a restored database no longer has."""
        with self._terms.db.read() as connection:
            having = batches(connection)
        if not having:
            return
        known = self._client.list_workflows(
            workflow_ids=having, load_input=False, load_output=False
        )
        at_work = {one.workflow_id for one in known if one.status in _OPEN}
        if ended := [batch for batch in having if batch not in at_work]:
            with self._terms.db.write() as connection:
                count = take_back(connection, ended, self._terms.clock())
            if count:
                _log.warning("work_taken_back", count=count)
                self._freed()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - mostly the database is away; told, tried again
                _log.error("sweeping_stalled", exc_info=error)
                self._steady_since = time.monotonic()
            self._closing.wait(SWEEP_S)

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._beat_at + HEARTBEAT_S:
            beat(self._terms.db, self._node)
            self._beat_at = now
        if now >= self._steady_since + DEAD_AFTER_S:
            self.sweep_once()


@contextmanager
def sweepers_lock(db: Database) -> Generator[bool]:
    """Whether this process may sweep now; nobody else does for the length of the block.

    It is no transaction's: what is resumed inside is written by other connections.
    """
    if db.path is None:
        with db.read() as connection:
            query = "SELECT pg_try_advisory_xact_lock(%s)"
            yield bool(connection.exec_driver_sql(query, (_LOCK_KEY,)).scalar_one())
        return
    with db.path.with_name("sweep.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True

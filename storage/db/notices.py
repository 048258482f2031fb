"""Notices: how one node wakes another through the database server, so that nobody polls fast.

Each process listens on a channel of its own with one connection and one thread. A notice names a
log and says nothing else: whoever is woken looks at the rows. A notice may be lost (the server
was restarted, the connection broke), so whoever waits for one looks by himself every `POLL_S` too.

Does: listens, connects again when the connection broke, and calls who wants to be woken. Refuses
to carry anything: what a notice says is not believed.
"""

import secrets
import threading
from collections.abc import Callable

import psycopg
from psycopg import sql

from storage.db.engine import Database
from storage.errors import Unavailable

POLL_S = 0.2
"""How often whoever waits looks without a notice; what a lost one costs at most."""

_LOOK_S = 0.5
_PAUSE_S = 0.5


class Notices:
    """One process's ear at the database server."""

    def __init__(self, db: Database) -> None:
        """Choose a channel that no other process has; `start` begins to listen.

        Args:
            db: on a server.
        """
        self._db = db
        self.channel = f"fengni_{secrets.token_hex(12)}"
        self._woken: dict[str, Callable[[], None]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def tell(self, log: str, wake: Callable[[], None]) -> None:
        """Name who is called, in the listening thread, when a notice names this log."""
        self._woken[log] = wake

    def start(self) -> None:
        """Listen from now on."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with self._db.session() as session:
                    session.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.channel)))
                    self._wake_all()  # what came while nobody listened
                    while not self._closing.is_set():
                        for notice in session.notifies(timeout=_LOOK_S):
                            self._wake(notice.payload)
            except (Unavailable, psycopg.Error):  # the others poll meanwhile
                self._closing.wait(_PAUSE_S)

    def _wake(self, log: str) -> None:
        wake = self._woken.get(log)
        if wake is not None:
            wake()

    def _wake_all(self) -> None:
        for wake in list(self._woken.values()):
            wake()

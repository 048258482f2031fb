"""Old and new programs side by side on one PostgreSQL: what only adds may be migrated under way.

The old program is this tree. The new one is a copy of it with one more migration, run as processes
of its own. So what is tried is the rule by which any two neighbouring releases are made.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

import storage.db.migrations
from service.fsck import check_logs
from storage.db.engine import Database, migrate
from storage.db.migrations import newest_revision, serves
from storage.errors import Unavailable
from tests.crash.ledger import Ledger
from tests.crash.load import Connection, Load
from tests.crash.test_server_kill import check_announced
from tests.postgres import OWNER, SERVICE, PostgresServer
from tests.service.deployment_maker import Made, make_deployment
from tests.service.server_process import ServerProcess
from tests.tools import ROOT

FOLDER = Path(storage.db.migrations.__file__).parent
ANSWERS = 10
PATIENCE_S = 240
NEXT = f"{int(newest_revision()) + 1:04d}"
ADDS = """\
    op.add_column("uploads", sa.Column("note", sa.String(64)))
    op.create_table("later", sa.Column("id", sa.String(64), primary_key=True))
"""
TAKES = """\
    op.drop_column("exports", "problem")
"""
MIGRATION = '''"""A migration of the next release."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None
floor = "{floor}"


def upgrade() -> None:
    """Change the schema."""
{orders}'''


class Program:
    """A copy of this tree with one more migration."""

    def __init__(self, folder: Path, *, orders: str, floor: str) -> None:
        """Make it."""
        self.folder = folder
        for name in ("evidence", "storage", "service"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        versions = folder / "storage" / "db" / "migrations" / "versions"
        text = MIGRATION.format(revision=NEXT, before=newest_revision(), floor=floor, orders=orders)
        (versions / f"{NEXT}_next.py").write_text(text)

    def migrate(self, url: str) -> None:
        """Bring a database to its own schema, as `fengni migrate` does."""
        order = f"from storage.db.engine import migrate; migrate({url!r}, service_role={SERVICE!r})"
        subprocess.run(
            [sys.executable, "-c", order],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder)},
            check=True,
            timeout=120,
        )


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    """A migrated database."""
    with postgres.database() as name:
        yield name


@pytest.fixture
def adds(tmp_path: Path) -> Program:
    """A release that only adds."""
    return Program(tmp_path / "adds", orders=ADDS, floor="0001")


@pytest.fixture
def takes(tmp_path: Path) -> Program:
    """A release that takes something away."""
    return Program(tmp_path / "takes", orders=TAKES, floor=NEXT)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_old_node_works_on_while_the_schema_grows(
    postgres: PostgresServer, name: str, tmp_path: Path, adds: Program
) -> None:
    """Migrated under load; the old node goes on and starts again; the new one takes over."""
    made = make_deployment(tmp_path / "deployment", database_url=postgres.url(name))
    load = load_of(made)
    old = ServerProcess(made.settings.folder, work="here")
    with old:
        old.start_ready()
        clients = load.to(old).begin("rolling")
        adds.migrate(postgres.url(name, OWNER))
        wait_for_more(load.ledger, old)
        old.kill()
        clients.end()
        old.start_ready()  # a node of before that is restarted in the middle of the update
        load.to(old).finish()
        assert load.ledger.faults == []
        old.stop()
    new = ServerProcess(made.settings.folder, program=adds.folder, work="here")
    with new:
        new.start_ready()
        again = load.to(new).begin("new")
        wait_for_more(load.ledger, new)
        new.kill()
        again.end()
        new.start_ready()
        load.to(new).finish()
        repeat(load, new)
        new.stop()
    assert load.ledger.faults == []
    assert [finding for log in check_logs(made.settings) for finding in log.findings] == []


@pytest.mark.slow
def test_an_old_node_does_not_start_where_something_was_taken_away(
    postgres: PostgresServer, name: str, tmp_path: Path, takes: Program
) -> None:
    """It says that it is the one to be updated; nothing is written by it."""
    made = make_deployment(tmp_path / "deployment", database_url=postgres.url(name))
    takes.migrate(postgres.url(name, OWNER))
    old = ServerProcess(made.settings.folder, work="here")
    with old:
        old.launch()
        assert old.process.wait(60) != 0
    assert "serves only newer versions: update this node" in old.said()


def test_a_newer_schema_that_says_nothing_is_refused(postgres: PostgresServer, name: str) -> None:
    """Without the word of whoever migrated nothing is taken for granted; a broken word is none."""
    postgres.execute("UPDATE alembic_version SET version_num = %s", name, (NEXT,))
    database = Database(postgres.url(name))
    for comment in ("NULL", "'floor'", f"'floor {NEXT}'"):
        postgres.execute(f"COMMENT ON TABLE alembic_version IS {comment}", name)
        with pytest.raises(Unavailable, match="update this node"):
            database.require_schema()
    postgres.execute("COMMENT ON TABLE alembic_version IS 'floor 0001'", name)
    database.require_schema()
    database.close()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """One program at a time uses a file, so there is nothing to serve side by side."""
    url = f"sqlite:///{tmp_path / 'fengni.db'}"
    migrate(url)
    database = Database(url)
    with database.write() as connection:
        assert serves(connection)
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (NEXT,))
    with pytest.raises(Unavailable, match="update this node"):
        database.require_schema()
    database.close()


def test_every_migration_keeps_its_word(postgres: PostgresServer) -> None:
    """One whose floor is below its own number only adds: old programs meet what they know."""
    scripts = [*ScriptDirectory(str(FOLDER)).walk_revisions()][::-1]
    name = postgres.empty()
    database = Database(postgres.url(name, OWNER))
    known: dict[str, sa.Table] = {}
    for script in scripts:
        assert str(script.module.floor) <= script.revision
        migrate(postgres.url(name, OWNER), revision=script.revision)
        with database.read() as connection:
            now = tables_of(connection)
        if script.module.floor < script.revision:
            for table in known.values():
                assert broken(table, now.get(table.name)) == []
        known = now
    database.close()
    postgres.drop(name)


def tables_of(connection: sa.Connection) -> dict[str, sa.Table]:
    """Every table as the server describes it."""
    metadata = sa.MetaData()
    metadata.reflect(connection, only=sa.inspect(connection).get_table_names())
    return dict(metadata.tables)


def broken(before: sa.Table, after: sa.Table | None) -> list[str]:
    """What a program that knows `before` could not do with `after`."""
    if after is None:
        return [f"{before.name} is gone"]
    found = [f"{before.name}.{one.name}" for one in before.c if differs(one, after.c.get(one.name))]
    return found + [
        f"{after.name}.{one.name} is demanded"
        for one in after.c
        if one.name not in before.c and not one.nullable and one.server_default is None
    ]


def differs(before: "sa.Column[object]", after: "sa.Column[object] | None") -> bool:
    """Whether a column is gone, of another type, or stricter than it was."""
    if after is None or repr(before.type) != repr(after.type):
        return True
    return bool(before.nullable) and not after.nullable


class Loads:
    """The same device and ledger, with whichever node is asked."""

    def __init__(self, made: Made) -> None:
        """Send nothing yet."""
        self.made = made
        self.ledger = Ledger()

    def to(self, server: ServerProcess) -> Load:
        """Clients of one node."""
        organ = self.made.deployment.organs[0].id
        return Load(
            url=server.url,
            token=self.made.tokens[organ],
            party=self.made.parties[organ],
            ledger=self.ledger,
        )


def wait_for_more(ledger: Ledger, server: ServerProcess) -> None:
    """Return when clients were answered for a while longer."""
    before, deadline = len(ledger.announced), time.monotonic() + PATIENCE_S
    while len(ledger.announced) < before + ANSWERS:
        server.require_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def load_of(made: Made) -> Loads:
    """Clients of a deployment's first organ."""
    return Loads(made)


def repeat(loads: Loads, server: ServerProcess) -> None:
    """Everything that was ever answered is answered with the same bytes."""
    load = loads.to(server)
    with Connection(load.url, load.token) as http:
        check_announced(http, loads.ledger.announced)

"""The schema's history: linear, shipped with the package, additive on evidence tables.

Does: brings a connection's database to the newest revision inside the caller's transaction, and
says which revision it has. On a server it also leaves there the oldest version of the program that
may work on the schema (its *floor*), because an older node cannot know what a newer one migrated.
Refuses: going back; evidence is never migrated away.

Each migration says `floor = "0007"`: the newest revision of an older program that it breaks nothing
for. One that only adds (tables, columns that may be empty or have a default) says what the one
before it said; one that takes something away says its own number, and comes a release later.
"""

import re
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_FLOOR = re.compile(r"floor (\w+)")


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run every migration up to a revision that this database has not seen, in order."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    if connection.dialect.name == "postgresql":
        floor = _floor_of(current_revision(connection) or "")
        connection.exec_driver_sql(f"COMMENT ON TABLE alembic_version IS 'floor {floor}'")


def current_revision(connection: Connection) -> str | None:
    """The revision of this database, or None where nothing was ever migrated."""
    return MigrationContext.configure(connection).get_current_revision()


@cache
def newest_revision() -> str:
    """The revision that this version of the program needs; every migration is read for it, once."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def serves(connection: Connection) -> bool:
    """Whether this version of the program may work on this database.

    It may on the schema that it knows, and on a newer one that says that it still serves it. A file
    is used by one program at a time, so there only the first.
    """
    current, newest = current_revision(connection), newest_revision()
    if current is None or current < newest:
        return False
    if current == newest:
        return True
    floor = _told_floor(connection)
    return floor is not None and floor <= newest


def _told_floor(connection: Connection) -> str | None:
    """What the newest migration left on a server for older programs, if anything."""
    if connection.dialect.name != "postgresql":
        return None
    query = "SELECT obj_description('alembic_version'::regclass, 'pg_class')"
    found = _FLOOR.fullmatch(connection.exec_driver_sql(query).scalar_one() or "")
    return found and found[1]


def _floor_of(revision: str) -> str:
    """The highest floor of all migrations up to a revision; revisions are numbers of one width."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return max(str(one.module.floor) for one in scripts if one.revision <= revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config

"""The databases of a deployment: made ready for it, and brought to a newer schema later.

Does: migrates as the role that owns the tables, grants the service's role what it needs, and makes
the table of heads on its own server. Refuses a database in which this log was made before: its keys
would be others.
"""

from dataclasses import dataclass

from sqlalchemy.engine import make_url

from service.data_keys import keys_url, prepare_shared
from service.deployment_file import Deployment, Places, database_url, heads_url
from service.settings import Settings
from storage import records
from storage.db.engine import Database, migrate
from storage.errors import NotFound, Unavailable
from storage.log.shared_heads import SharedHead, prepare_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Where a deployment's rows and heads are, and who owns their tables.

    Attributes:
        url: of the database, for the service's role; None for a SQLite file in the folder.
        owner_url: the same database for the role that owns the tables; None for the same role.
        heads_url: of the heads on another server, for the service's role; None for files.
        heads_owner_url: the same for the owner's role; None for the same role.
        keys_url: of the keys on another server, for the service's role; None for a file.
        keys_owner_url: the same for the owner's role; None for the same role.
    """

    url: str | None = None
    owner_url: str | None = None
    heads_url: str | None = None
    heads_owner_url: str | None = None
    keys_url: str | None = None
    keys_owner_url: str | None = None

    @property
    def keys_role(self) -> str | None:
        """The service's role in the key database, where the tables' owner is another one."""
        return None if self.keys_url is None else _role(self.keys_url, self.keys_owner_url)


IN_THE_FOLDER = Databases()


class SetupRefused(Exception):
    """A deployment cannot be made that way; the message says why."""


def databases_of(
    settings: Settings,
    deployment: Deployment,
    owner_url: str | None = None,
    heads_owner_url: str | None = None,
    keys_owner_url: str | None = None,
) -> Databases:
    """The databases of a deployment that is there."""
    return Databases(
        url=database_url(settings, deployment),
        owner_url=owner_url,
        heads_url=heads_url(settings, deployment),
        heads_owner_url=heads_owner_url,
        keys_url=keys_url(settings, deployment),
        keys_owner_url=keys_owner_url,
    )


def prepare_databases(databases: Databases, places: Places) -> None:
    """Bring every database to the newest schema; repeating changes nothing.

    Raises:
        Unavailable: one of them does not answer.
    """
    migrate_database(databases.url or places.database_url, databases.owner_url)
    if databases.heads_url is not None:
        owner = databases.heads_owner_url
        heads = Database(owner or databases.heads_url)
        try:
            prepare_heads(heads, service_role=_role(databases.heads_url, owner))
        finally:
            heads.close()
    if databases.keys_url is not None:
        prepare_shared(
            databases.keys_owner_url or databases.keys_url, service_role=databases.keys_role
        )


def migrate_database(url: str, owner_url: str | None) -> None:
    """Bring one database to the newest schema, and give the service's role what it needs.

    Raises:
        Unavailable: it does not answer.
    """
    migrate(owner_url or url, service_role=_role(url, owner_url))


def require_unused(databases: Databases, log: str, origin: str) -> None:
    """Refuse databases in which this log was made before, before anything is made.

    Raises:
        SetupRefused: a database knows the log already, or is malformed.
        Unavailable: one does not answer.
    """
    if databases.heads_url is not None and databases.url is None:
        raise SetupRefused("Heads on a server belong to a database on a server.")
    if databases.url is not None and _knows(databases.owner_url or databases.url, log):
        raise SetupRefused(f"The database holds a log {log} already; give a new database.")
    if databases.heads_url is not None and _has_head(databases, origin):
        raise SetupRefused(f"There is a head of {origin} already; a log is made once.")


def _knows(url: str, log: str) -> bool:
    db = Database(url)
    try:
        db.require_schema()
        with db.read() as connection:
            return records.log_of(connection, log) is not None
    except Unavailable:  # nothing was migrated there; whether it answers, the migration will show
        return False
    finally:
        db.close()


def _has_head(databases: Databases, origin: str) -> bool:
    db = Database(databases.heads_owner_url or databases.heads_url or "")
    try:
        prepare_heads(db)
        SharedHead(db, origin).read()
    except NotFound:
        return False
    else:
        return True
    finally:
        db.close()


def _role(url: str, owner_url: str | None) -> str | None:
    """The service's role, where the tables' owner is another one."""
    role = make_url(url).username
    return None if owner_url is None or role == make_url(owner_url).username else role

"""Who may do what on a server: the owner migrates, the service adds evidence and does its work.

Does: gives the service's role SELECT and INSERT on evidence tables, everything that work needs on
work tables, and takes back whatever else it had. Refuses to give anybody UPDATE, DELETE or
TRUNCATE on evidence: triggers refuse those to the owner as well, so two things must fail before a
row can be changed.
"""

from sqlalchemy import Connection

from storage.db.tables import EVIDENCE, metadata

_WORK = "SELECT, INSERT, UPDATE, DELETE"
_ADDED = "SELECT, INSERT"


def grant(connection: Connection, role: str) -> None:
    """Give a role what the service needs, on every table of the newest schema.

    Args:
        connection: of the tables' owner, in a write transaction.
        role: exists already; whoever runs the server makes it, with its password.
    """
    to = connection.dialect.identifier_preparer.quote(role)
    schema = str(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    inside = connection.dialect.identifier_preparer.quote(schema)
    evidence = {table.name for table in EVIDENCE}
    orders = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {inside} FROM {to}",
        f"GRANT USAGE ON SCHEMA {inside} TO {to}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {inside} TO {to}",
        f"GRANT SELECT ON alembic_version TO {to}",
        *(
            f"GRANT {_ADDED if name in evidence else _WORK} ON {name} TO {to}"
            for name in sorted(metadata.tables)
        ),
    ]
    for order in orders:
        connection.exec_driver_sql(order)


def excess(connection: Connection) -> list[str]:
    """Evidence tables on which this connection's own role may do more than read and add.

    A file knows no roles: there, whoever may write it is kept off by the triggers alone.
    """
    if connection.dialect.name == "sqlite":
        return []
    query = (
        "SELECT has_table_privilege(%s, 'UPDATE') OR has_table_privilege(%s, 'DELETE')"
        " OR has_table_privilege(%s, 'TRUNCATE')"
    )
    return [
        table.name
        for table in EVIDENCE
        if connection.exec_driver_sql(query, (table.name,) * 3).scalar_one()
    ]

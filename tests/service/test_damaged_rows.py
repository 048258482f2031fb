"""One changed value in each column of each table: no check breaks down, and somebody notices."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Column, Table

from service.scrub.holdings import take_up
from storage.db.engine import Database
from storage.db.tables import holdings, metadata
from storage.objects.local import LocalObjects
from tests.sampling import sampled
from tests.service.attested_maker import Attested, make_attested
from tests.service.kept_deployment import LOG, Kept, use
from tests.service.truth_maker import differences

pytestmark = pytest.mark.slow
ELSEWHERE = {
    "announcements": "used on PostgreSQL alone; each is verified again (test_joined_log)",
    "leaders": "used on PostgreSQL alone; who changes an epoch ends the leader (test_log_leading)",
    "transfers": "used on PostgreSQL alone; at worst a transfer begins again (test_any_node)",
    "nodes": "a process that ends takes its row along (test_engine)",
    "deliveries": "nobody has subscribed here (test_webhooks)",
    "webhook_places": "nobody has subscribed here (test_webhooks)",
}
"""Tables in which a stopped deployment on SQLite has no rows, and where they are tried instead."""

COLUMNS = [
    (table, column)
    for table in metadata.sorted_tables
    for column in table.c
    if table.name not in ELSEWHERE
]
NAMES = [f"{table.name}.{column.name}" for table, column in COLUMNS]
SOME = sampled("table, column", COLUMNS, count=1, ids=NAMES, group=lambda case: case[0].name)
"""A column of each table, and every one in `make test-long`."""

UNNOTICED = {
    "cosignatures.received_at": "our word for when it came: the witness's own time is signed;"
    " only one that cannot be (before the checkpoint, or in the future) is noticed",
    "timestamps.received_at": "our word for when it came: the authority's own time is signed;"
    " only one that cannot be (before what it covers, or in the future) is noticed",
    "outbox.id": "the order of the queue; no meaning beside it",
    "outbox.attempts": "how often work was tried; at worst it is tried more or less often",
    "outbox.due_at": "when work is tried next; only one beyond any pause is noticed",
    "outbox.problem": "the last failure's code, for people to see",
    "outbox.created_at": "when the work came up; nothing is computed from it",
    "uploads.staging_key": "nobody reads or writes it",
    "uploads.problem": "nobody reads or writes it",
    "uploads.updated_at": "when the row was last written; nothing is computed from it",
    "tokens.id": "the name under which a person revokes the token",
    "tokens.holder": "whose a token is is the operator's to say; custody entries repeat it",
    "tokens.sha256": "another secret's digest: the old secret is refused; that a new one was issued"
    " is the operator's to know, and what is done with it is logged",
    "tokens.created_at": "when the token was issued; nothing is computed from it",
    "tokens.expires_at": "until when the operator lets a token work",
    "tokens.revoked_at": "since when the operator lets a token work no more",
    "exports.problem": "the last failure's code, for people to see",
    "exports.created_at": "when it was asked for; the custody entries say so, signed",
    "exports.ready_at": "when the package was made; the package says so, signed",
    "exports.expires_at": "when the package is removed from the server",
    "holdings.draw": "who comes first of those of one age; random",
    "holdings.checked_at": "when a scrub last looked; signed reports in the log say so",
    "holdings.outcome": "what a scrub found last; signed reports in the log say so",
    "views.until": "when the next reading is logged again; only one too far away is noticed",
}
"""Columns in which a small change is legitimately invisible, and why."""


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attested]:
    """A deployment whose witness and authority answer during all tests."""
    made = make_attested(tmp_path_factory.mktemp("attested"))
    with made.outside():
        yield made


@pytest.fixture(scope="module")
def original(attested: Attested) -> Kept:
    """The deployment, used and stopped, all of its database in one file."""
    kept = use(attested)
    with closing(sqlite3.connect(kept.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return kept


@pytest.fixture
def kept(original: Kept) -> Iterator[Kept]:
    """The deployment itself, whose database is put back afterwards: nothing else is changed."""
    whole = original.database.read_bytes()
    yield original
    for name in ("", "-wal", "-shm"):
        original.database.with_name(original.database.name + name).unlink(missing_ok=True)
    original.database.write_bytes(whole)


def changed(kept: Kept, table: Table, column: Column[object]) -> str:
    """The SQL of another value of the same type in one row, of county-a where it can be."""
    own = f"WHERE log = '{LOG}'" if "log" in table.c else ""
    [(row,)] = kept.rows(f"SELECT max(rowid) FROM {table.name} {own}")  # noqa: S608
    kind = column.type.python_type
    name = column.name
    value = {
        int: f"COALESCE({name}, 0) + 1",
        str: f"COALESCE(substr({name}, 1, length({name}) - 1) ||"
        f" CASE substr({name}, -1) WHEN 'c' THEN 'd' ELSE 'c' END, 'c')",
        bytes: f"CAST(substr({name}, 1, length({name}) - 1) || x'5a' AS BLOB)",
    }.get(kind, f"COALESCE({name}, 0) + 1000")
    return f"UPDATE {table.name} SET {name} = {value} WHERE rowid = {row}"  # noqa: S608


def noticed(kept: Kept) -> bool:
    """Whether fsck, doctor or db verify finds anything wrong; none may break down."""
    return bool(kept.fsck()) | bool(kept.wrong()) | bool(differences(kept.settings))


def fill(kept: Kept, table: Table) -> None:
    """Have a row where a stopped deployment has none: a due piece of work, what is kept."""
    if table.name == "outbox":
        kept.edit("UPDATE outbox SET due_at = 1 WHERE state = 'held'")
    if table is holdings:
        db = Database(kept.places.database_url)
        take_up(db, LocalObjects(kept.places.objects), LOG, "county-a")
        db.close()


@pytest.mark.timeout(120)
@SOME
def test_a_changed_value_is_noticed(kept: Kept, table: Table, column: Column[object]) -> None:
    """Every column but those named above; and those are invisible indeed."""
    fill(kept, table)
    assert kept.edit(changed(kept, table, column)) == 1
    assert noticed(kept) is (f"{table.name}.{column.name}" not in UNNOTICED)


WORST = {int: "4611686018427387904", str: "'ÿ'", bytes: "x''"}


@pytest.mark.timeout(120)
@SOME
def test_a_value_that_is_none_breaks_nothing(
    kept: Kept, table: Table, column: Column[object]
) -> None:
    """A number that no calendar or counter holds, a text of one letter, no bytes at all."""
    fill(kept, table)
    own = f"WHERE log = '{LOG}'" if "log" in table.c else ""
    [(row,)] = kept.rows(f"SELECT max(rowid) FROM {table.name} {own}")  # noqa: S608
    value = WORST.get(column.type.python_type, "4611686018427387904")
    kept.edit(f"UPDATE {table.name} SET {column.name} = {value} WHERE rowid = {row}")  # noqa: S608
    found = kept.doctor()
    kept.fsck()
    differences(kept.settings)
    assert {one.name.split(".")[0] for one in found} >= {"database", "objects", "disk", "keys"}


def test_the_list_names_columns_that_are_there() -> None:
    """No reason is kept for a column that is gone."""
    assert UNNOTICED.keys() <= set(NAMES)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_tables_that_are_tried_elsewhere_are_empty_here(original: Kept, name: str) -> None:
    """Else their rows would be tried nowhere."""
    assert original.rows(f"SELECT * FROM {name}") == []  # noqa: S608

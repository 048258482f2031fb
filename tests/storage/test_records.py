"""Evidence rows: written once, found again, and never changed by anybody."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from evidence.keys import P256Signer
from storage import records
from storage.db.engine import Database
from storage.db.tables import EVIDENCE
from storage.records import (
    NewRecord,
    Stamped,
    StoredCheckpoint,
    StoredCosignature,
    StoredTimestamp,
)
from tests.storage.log_material import LOG_ID, ORGAN, ORIGIN, RECEIVED, capture, now

SIGNER = P256Signer.generate()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Yield a migrated database of each sort."""
    database = Database(database_url)
    yield database
    database.close()


def new(index: int, **about: str) -> NewRecord:
    """Return a record that can be added."""
    item = capture(SIGNER, **about)
    return NewRecord(
        index=index,
        statement=item.statement,
        signature=item.signed.signature,
        public_key=item.public_key,
        leaf_hash=bytes([index]) * 32,
        received_at=item.received_at,
    )


CHECKPOINT = StoredCheckpoint(size=2, root=b"r" * 32, note=b"note", committed_at=RECEIVED)
COSIGNATURE = StoredCosignature(
    size=2, witness="w", witness_key="01020304", line="— w AQ==", at_s=7, received_at=RECEIVED
)
TIMESTAMP = StoredTimestamp(
    subject_kind=Stamped.CHECKPOINT,
    position=2,
    tsa="t",
    response=b"der",
    gen_time=RECEIVED,
    received_at=RECEIVED,
)


def fill(connection: Connection) -> list[NewRecord]:
    """One row or more in every evidence table."""
    first = new(0)
    rows = [first, new(1, about=first.statement.id, previous=first.statement.id)]
    records.add_log(connection, log=LOG_ID, organ=ORGAN, origin=ORIGIN, at=now())
    records.add_records(connection, LOG_ID, 2, rows)
    records.add_checkpoint(connection, LOG_ID, ORGAN, CHECKPOINT)
    records.add_cosignatures(connection, LOG_ID, ORGAN, [COSIGNATURE])
    records.add_timestamp(connection, LOG_ID, ORGAN, TIMESTAMP)
    return rows


def test_a_record_comes_back_as_it_went_in(database: Database) -> None:
    """A statement is found by id, index, subject and kind, with its text and key."""
    with database.write() as connection:
        first, second = fill(connection)
    with database.read() as connection:
        found = records.find_record(connection, LOG_ID, second.statement.id)
        assert found is not None
        assert found == records.StoredRecord(
            log=LOG_ID,
            organ=ORGAN,
            index=1,
            statement_id=second.statement.id,
            key_id=SIGNER.key_id,
            kind="capture",
            subject=first.statement.id,
            previous=first.statement.id,
            signature=second.signature,
            leaf_hash=second.leaf_hash,
            received_at=RECEIVED,
            committed_size=2,
        )
        assert records.record_at(connection, LOG_ID, 1) == found
        assert records.record_at(connection, LOG_ID, 2) is None
        assert records.records_about(connection, LOG_ID, first.statement.id) == [found]
        kinds = records.records_of_kind(connection, LOG_ID, "capture", start=0)
        assert [record.index for record in kinds] == [0, 1]
        assert records.records_of_kind(connection, LOG_ID, "capture", start=1) == [found]
        assert records.records_of_kind(connection, LOG_ID, "key", start=0) == []
        assert records.text_at(connection, LOG_ID, 1) == second.statement.raw
        assert records.text_at(connection, LOG_ID, 2) is None
        key = records.public_key_of(connection, LOG_ID, SIGNER.key_id)
        assert key == SIGNER.public_key
        assert records.public_key_of(connection, LOG_ID, "0" * 64) is None


def test_many_are_found_in_the_order_of_the_log(database: Database) -> None:
    """A look-up of many statements gives those that are there, by index."""
    rows = [new(index) for index in range(70)]
    with database.write() as connection:
        records.add_records(connection, LOG_ID, 70, rows)
    wanted = ["f" * 64, *(row.statement.id for row in reversed(rows[3:68]))]
    with database.read() as connection:
        found = records.find_records(connection, LOG_ID, wanted)
        assert [record.index for record in found] == list(range(3, 68))
        assert records.find_records(connection, LOG_ID, []) == []
        assert records.find_record(connection, "another-log", wanted[1]) is None


def test_checkpoints_cosignatures_and_timestamps(database: Database) -> None:
    """What was signed, cosigned and stamped is found by size; the first of each stays."""
    second = StoredCheckpoint(
        size=5, root=b"q" * 32, note=b"later", committed_at=RECEIVED + timedelta(seconds=1)
    )
    other = StoredCosignature(
        size=2, witness="v", witness_key="0a0a0a0a", line="— v AQ==", at_s=8, received_at=now()
    )
    again = StoredCosignature(
        size=2, witness="w", witness_key="01020304", line="— w Ag==", at_s=9, received_at=now()
    )
    with database.write() as connection:
        fill(connection)
        records.add_checkpoint(connection, LOG_ID, ORGAN, second)
        records.add_cosignatures(connection, LOG_ID, ORGAN, [again, other])
        records.add_timestamp(connection, LOG_ID, ORGAN, TIMESTAMP)
    with database.read() as connection:
        assert records.log_of(connection, LOG_ID) == (ORGAN, ORIGIN)
        assert records.log_of(connection, "no-log") is None
        assert records.newest_checkpoint(connection, LOG_ID) == second
        assert records.newest_checkpoint(connection, "no-log") is None
        held = records.checkpoints_of(connection, LOG_ID, [2, 3])
        assert held == {2: CHECKPOINT}
        lines = records.cosignatures_of(connection, LOG_ID, 2)
        assert [(one.witness, one.at_s) for one in lines] == [("w", 7), ("v", 8)]
        assert records.cosigned_sizes(connection, LOG_ID, above=0, limit=9) == [(2, 2)]
        assert records.cosigned_sizes(connection, LOG_ID, above=2, limit=9) == []
        stamps = records.timestamps_of(connection, LOG_ID, Stamped.CHECKPOINT, 2)
        assert stamps == [TIMESTAMP]
        assert records.timestamps_of(connection, LOG_ID, Stamped.SIGNATURE, 2) == []


def test_times_are_whole_milliseconds_in_utc(database: Database) -> None:
    """A time is cut to milliseconds and comes back as UTC."""
    at = datetime(2026, 11, 23, 1, 4, 6, 123999, tzinfo=UTC)
    with database.write() as connection:
        records.add_checkpoint(
            connection,
            LOG_ID,
            ORGAN,
            StoredCheckpoint(size=1, root=b"", note=b"", committed_at=at),
        )
    with database.read() as connection:
        newest = records.newest_checkpoint(connection, LOG_ID)
    assert newest is not None
    assert newest.committed_at == datetime(2026, 11, 23, 1, 4, 6, 123000, tzinfo=UTC)


def test_one_statement_has_one_record(database: Database) -> None:
    """The database itself refuses a second record of a statement, and a second one at an index."""
    with database.write() as connection:
        first, _ = fill(connection)
    for clash in (new(0), replace(first, index=2)):
        with pytest.raises(IntegrityError), database.write() as connection:
            records.add_records(connection, LOG_ID, 3, [clash])


def test_every_evidence_row_names_organ_and_log() -> None:
    """No evidence table lacks the two columns."""
    for table in EVIDENCE:
        assert {"organ", "log"} <= set(table.c.keys())
        assert not table.c.organ.nullable
        assert not table.c.log.nullable

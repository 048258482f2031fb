"""The tables: evidence rows, which are never changed, apart from work rows, which are.

Every evidence row carries its organ and its log. Triggers of the migrations refuse UPDATE and
DELETE on the tables in `EVIDENCE`; this module only says what the columns are.
Times are UTC and kept as whole milliseconds since 1970; ids of statements and keys are
lowercase hex, hashes of the tree are raw.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.types import TypeDecorator

from storage.errors import IntegrityAlarm

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Moment(TypeDecorator[datetime]):
    """A UTC-aware datetime, kept as whole milliseconds since 1970 on every database."""

    impl = BigInteger
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What the code sees."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Cut to milliseconds; a naive datetime is a TypeError."""
        del dialect
        return None if value is None else (value - _EPOCH) // _MS

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Give back UTC; a number that no calendar holds is an IntegrityAlarm."""
        del dialect
        try:
            return None if value is None else _EPOCH + value * _MS
        except (OverflowError, TypeError) as error:
            raise IntegrityAlarm("a row has a time that is none") from error


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = String(64)  # SHA-256 in hex
_NAME = String(128)
_ROW = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts only INTEGER up


def _log_and_organ() -> tuple[Column[str], Column[str]]:
    return Column("log", _NAME, primary_key=True), Column("organ", _NAME, nullable=False)


# ------------------------------------------------------------------------ evidence

records = Table(
    "records",  # one row for each leaf: what is known of a statement without opening its text
    metadata,
    *_log_and_organ(),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("statement_id", _ID, nullable=False),
    Column("key_id", _ID, nullable=False),  # of the signer; its key lies in public_keys
    Column("kind", String(32), nullable=False),
    Column("subject", _ID),  # the statement that this one is about
    Column("previous", _ID),
    Column("signature", LargeBinary, nullable=False),  # DER
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("committed_size", BigInteger, nullable=False),  # of the checkpoint of its batch
    UniqueConstraint("log", "statement_id"),  # a statement names its signer, so its key too
    Index(None, "log", "subject"),
    Index(None, "log", "kind", "idx"),
)

texts = Table(
    "texts",  # the statements' canonical bytes
    metadata,
    *_log_and_organ(),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("statement", LargeBinary, nullable=False),
)

public_keys = Table(
    "public_keys",  # by key id; organ is that of the first statement which the key signed here
    metadata,
    *_log_and_organ(),
    Column("key_id", _ID, primary_key=True),
    Column("spki", LargeBinary, nullable=False),  # DER SubjectPublicKeyInfo
)

checkpoints = Table(
    "checkpoints",  # every checkpoint that was ever signed, one for each committed batch
    metadata,
    *_log_and_organ(),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),  # the signed note, byte for byte
    Column("committed_at", Moment, nullable=False),
)

cosignatures = Table(
    "cosignatures",  # what witnesses added to published checkpoints
    metadata,
    *_log_and_organ(),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("witness", _NAME, primary_key=True),
    Column("witness_key", String(8), primary_key=True),  # C2SP key id, hex
    Column("line", Text, nullable=False),  # the signature line, without its line feed
    Column("at_s", BigInteger, nullable=False),  # the witness's own time
    Column("received_at", Moment, nullable=False),
)

timestamps = Table(
    "timestamps",  # RFC 3161 responses over checkpoints and over statements' signatures
    metadata,
    *_log_and_organ(),
    Column("subject_kind", String(16), primary_key=True),  # checkpoint or signature
    Column("position", BigInteger, primary_key=True, autoincrement=False),  # size, or index
    Column("tsa", _NAME, primary_key=True),
    Column("response", LargeBinary, nullable=False),  # DER TimeStampResp
    Column("gen_time", Moment, nullable=False),
    Column("received_at", Moment, nullable=False),
)

EVIDENCE = (records, texts, public_keys, checkpoints, cosignatures, timestamps)

# ---------------------------------------------------------------------------- work

logs = Table(
    "logs",  # which logs this database indexes
    metadata,
    Column("id", _NAME, primary_key=True),
    Column("organ", _NAME, nullable=False),
    Column("origin", String(255), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
)

outbox = Table(
    "outbox",  # work that a transaction left behind: leased, done, never lost
    metadata,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("log", _NAME, nullable=False),
    Column("organ", _NAME, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", _ID, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, leased, done, failed
    Column("attempts", Integer, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("lease_owner", _NAME),
    Column("lease_until", Moment),
    Column("problem", String(64)),  # code of the last failure
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("log", "kind", "subject"),
    Index(None, "state", "due_at"),
)

uploads = Table(
    "uploads",  # content on its way to a capture; the id is the capture's
    metadata,
    Column("log", _NAME, primary_key=True),
    Column("id", _ID, primary_key=True),
    Column("organ", _NAME, nullable=False),
    Column("state", String(16), nullable=False),  # announced, receiving, received, stored, …
    Column("sha256", _ID, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("media_type", _NAME, nullable=False),
    Column("staging_key", _NAME),
    Column("received_at", Moment),
    Column("problem", String(64)),
    Column("updated_at", Moment, nullable=False),
    Index(None, "state", "updated_at"),
)

tokens = Table(
    "tokens",  # people's bearer tokens, hashed
    metadata,
    Column("id", String(32), primary_key=True),
    Column("organ", _NAME, nullable=False),
    Column("holder", _NAME, nullable=False),
    Column("scopes", Text, nullable=False),  # words separated by spaces
    Column("sha256", _ID, nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("revoked_at", Moment),
)

leaders = Table(
    "leaders",  # who sequences a log, where several nodes could; the epoch only grows
    metadata,
    Column("log", _NAME, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("node", _NAME, nullable=False),
    Column("until", Moment, nullable=False),  # by the database's own clock
    Column("channel", String(64), nullable=False, server_default=""),  # where it is woken
    Column("taking", Boolean, nullable=False, server_default=true()),  # whether it signs
)

announcements = Table(
    "announcements",  # statements handed in at one node for the node that leads; see log.mail
    metadata,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("log", _NAME, nullable=False),
    Column("channel", String(64), nullable=False),  # of the node that waits for the answer
    Column("request", LargeBinary, nullable=False),
    Column("answered", Boolean, nullable=False, server_default=false()),
    Column("answer", LargeBinary),
    Column("asked_at", Moment, nullable=False),  # by the database's own clock
    Index(None, "log", "answered", "id"),
    Index(None, "channel", "answered"),
)

exports = Table(
    "exports",  # packages that were asked for
    metadata,
    Column("id", String(32), primary_key=True),
    Column("log", _NAME, nullable=False),
    Column("organ", _NAME, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, ready, failed, expired
    Column("requested_by", _NAME, nullable=False),
    Column("captures", Text, nullable=False),  # statement ids separated by spaces
    Column("sha256", _ID),
    Column("size_bytes", BigInteger),
    Column("problem", String(64)),
    Column("created_at", Moment, nullable=False),
    Column("ready_at", Moment),
    Column("expires_at", Moment),
)

views = Table(
    "views",  # until when a reader's look at an object is already a custody event
    metadata,
    Column("log", _NAME, primary_key=True),
    Column("reader", _NAME, primary_key=True),
    Column("object", _ID, primary_key=True),
    Column("organ", _NAME, nullable=False),
    Column("until", Moment, nullable=False),
)

holdings = Table(
    "holdings",  # what statements say is kept, and when it was last re-hashed; oldest comes first
    metadata,
    Column("log", _NAME, primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),  # of the statement
    Column("organ", _NAME, nullable=False),
    Column("capture", _ID),  # None for the reports of earlier runs
    Column("capture_idx", BigInteger),
    Column("kind", String(32), nullable=False),  # of the statement: stored, inspected, check
    Column("object", _ID, nullable=False),
    Column("version", String(255)),
    Column("size_bytes", BigInteger, nullable=False),
    Column("media_type", _NAME, nullable=False),
    Column("draw", BigInteger, nullable=False),  # random: who comes first of those of one age
    Column("checked_at", Moment, nullable=False),  # at first when it was stored and read back
    Column("outcome", String(16)),  # ok, damaged, missing, repaired; None before the first run
    Index(None, "organ", "checked_at", "draw"),
)

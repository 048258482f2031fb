"""The first tables: evidence, append-only by trigger, and work.

Written out and not taken from `storage.db.tables`: history does not change when the tables do.
"""

from typing import TypeVar

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

from storage.db.migrations.triggers import append_only

Value = TypeVar("Value")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
floor = "0001"

ID = sa.String(64)
NAME = sa.String(128)
WORD = sa.String(16)
MS = sa.BigInteger  # milliseconds since 1970, UTC
ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts only INTEGER up

EVIDENCE = ("records", "texts", "public_keys", "checkpoints", "cosignatures", "timestamps")


def _needed(name: str, kind: TypeEngine[Value]) -> sa.Column[Value]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    """Make the tables, then close the evidence tables against change."""
    _evidence()
    _work()
    for table in EVIDENCE:
        for statement in append_only(op.get_context().dialect.name, table):
            op.execute(statement)


def _evidence() -> None:
    op.create_table(
        "records",
        _needed("log", NAME),
        _needed("organ", NAME),
        _needed("idx", sa.BigInteger()),
        _needed("statement_id", ID),
        _needed("key_id", ID),
        _needed("kind", sa.String(32)),
        sa.Column("subject", ID),
        sa.Column("previous", ID),
        _needed("signature", sa.LargeBinary()),
        _needed("leaf_hash", sa.LargeBinary()),
        _needed("received_at", MS()),
        _needed("committed_size", sa.BigInteger()),
        sa.PrimaryKeyConstraint("log", "idx", name="pk_records"),
        sa.UniqueConstraint("log", "statement_id", name="uq_records_log_statement_id"),
    )
    op.create_index("ix_records_log_subject", "records", ["log", "subject"])
    op.create_index("ix_records_log_kind_idx", "records", ["log", "kind", "idx"])
    op.create_table(
        "texts",
        _needed("log", NAME),
        _needed("organ", NAME),
        _needed("idx", sa.BigInteger()),
        _needed("statement", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("log", "idx", name="pk_texts"),
    )
    op.create_table(
        "public_keys",
        _needed("log", NAME),
        _needed("organ", NAME),
        _needed("key_id", ID),
        _needed("spki", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("log", "key_id", name="pk_public_keys"),
    )
    op.create_table(
        "checkpoints",
        _needed("log", NAME),
        _needed("organ", NAME),
        _needed("size", sa.BigInteger()),
        _needed("root", sa.LargeBinary()),
        _needed("note", sa.LargeBinary()),
        _needed("committed_at", MS()),
        sa.PrimaryKeyConstraint("log", "size", name="pk_checkpoints"),
    )
    op.create_table(
        "cosignatures",
        _needed("log", NAME),
        _needed("organ", NAME),
        _needed("size", sa.BigInteger()),
        _needed("witness", NAME),
        _needed("witness_key", sa.String(8)),
        _needed("line", sa.Text()),
        _needed("at_s", sa.BigInteger()),
        _needed("received_at", MS()),
        sa.PrimaryKeyConstraint("log", "size", "witness", "witness_key", name="pk_cosignatures"),
    )
    op.create_table(
        "timestamps",
        _needed("log", NAME),
        _needed("organ", NAME),
        _needed("subject_kind", WORD),
        _needed("position", sa.BigInteger()),
        _needed("tsa", NAME),
        _needed("response", sa.LargeBinary()),
        _needed("gen_time", MS()),
        _needed("received_at", MS()),
        sa.PrimaryKeyConstraint("log", "subject_kind", "position", "tsa", name="pk_timestamps"),
    )


def _work() -> None:
    op.create_table(
        "logs",
        _needed("id", NAME),
        _needed("organ", NAME),
        _needed("origin", sa.String(255)),
        _needed("created_at", MS()),
        sa.PrimaryKeyConstraint("id", name="pk_logs"),
        sa.UniqueConstraint("origin", name="uq_logs_origin"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        _needed("log", NAME),
        _needed("organ", NAME),
        _needed("kind", sa.String(32)),
        _needed("subject", ID),
        _needed("state", WORD),
        _needed("attempts", sa.Integer()),
        _needed("due_at", MS()),
        sa.Column("lease_owner", NAME),
        sa.Column("lease_until", MS()),
        sa.Column("problem", ID),
        _needed("created_at", MS()),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("log", "kind", "subject", name="uq_outbox_log_kind_subject"),
    )
    op.create_index("ix_outbox_state_due_at", "outbox", ["state", "due_at"])
    op.create_table(
        "uploads",
        _needed("log", NAME),
        _needed("id", ID),
        _needed("organ", NAME),
        _needed("state", WORD),
        _needed("sha256", ID),
        _needed("size_bytes", sa.BigInteger()),
        _needed("media_type", NAME),
        sa.Column("staging_key", NAME),
        sa.Column("received_at", MS()),
        sa.Column("problem", ID),
        _needed("updated_at", MS()),
        sa.PrimaryKeyConstraint("log", "id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_state_updated_at", "uploads", ["state", "updated_at"])
    op.create_table(
        "tokens",
        _needed("id", sa.String(32)),
        _needed("organ", NAME),
        _needed("holder", NAME),
        _needed("scopes", sa.Text()),
        _needed("sha256", ID),
        _needed("created_at", MS()),
        _needed("expires_at", MS()),
        sa.Column("revoked_at", MS()),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("sha256", name="uq_tokens_sha256"),
    )
    op.create_table(
        "exports",
        _needed("id", sa.String(32)),
        _needed("log", NAME),
        _needed("organ", NAME),
        _needed("state", WORD),
        _needed("requested_by", NAME),
        _needed("captures", sa.Text()),
        sa.Column("sha256", ID),
        sa.Column("size_bytes", sa.BigInteger()),
        sa.Column("problem", ID),
        _needed("created_at", MS()),
        sa.Column("ready_at", MS()),
        sa.Column("expires_at", MS()),
        sa.PrimaryKeyConstraint("id", name="pk_exports"),
    )
    op.create_table(
        "views",
        _needed("log", NAME),
        _needed("reader", NAME),
        _needed("object", ID),
        _needed("organ", NAME),
        _needed("until", MS()),
        sa.PrimaryKeyConstraint("log", "reader", "object", name="pk_views"),
    )

"""Any node takes announcements in: a work table from which the leader takes them, and its address.

On PostgreSQL the table is not logged: nothing in it was answered for, and who asked asks again.
Written out and not taken from `storage.db.tables`: history does not change when the tables do.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
floor = "0001"
branch_labels = None
depends_on = None

_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table, and two columns to `leaders`, whose rows are made anew at every start."""
    op.add_column("leaders", sa.Column("channel", sa.String(64), nullable=False, server_default=""))
    op.add_column(
        "leaders", sa.Column("taking", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    unlogged = ["UNLOGGED"] if op.get_context().dialect.name == "postgresql" else []
    op.create_table(
        "announcements",
        sa.Column("id", _ROW, autoincrement=True, nullable=False),
        sa.Column("log", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("answered", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_announcements"),
        prefixes=unlogged,
    )
    op.create_index("ix_announcements_log_answered_id", "announcements", ["log", "answered", "id"])
    op.create_index("ix_announcements_channel_answered", "announcements", ["channel", "answered"])

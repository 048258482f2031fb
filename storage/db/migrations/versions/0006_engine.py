"""A lease ends with its process and not by a clock; who is alive; what subscribers are told.

Work that was leased when the service stopped waits again; its attempts stay counted.
Written out and not taken from `storage.db.tables`: history does not change when the tables do.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
floor = "0006"  # an older program leases with the column that goes


def upgrade() -> None:
    """Change the outbox, add the two tables."""
    op.execute("UPDATE outbox SET state = 'waiting', lease_owner = NULL WHERE state = 'leased'")
    op.drop_column("outbox", "lease_until")
    op.create_index("ix_outbox_lease_owner", "outbox", ["lease_owner"])
    op.create_table(
        "nodes",
        sa.Column("executor", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("host", sa.String(128), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("executor", name="pk_nodes"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("log", sa.String(128), nullable=False),
        sa.Column("organ", sa.String(128), nullable=False),
        sa.Column("webhook", sa.String(128), nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("answer", sa.Integer()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_state_created_at", "deliveries", ["state", "created_at"])
    op.create_table(
        "webhook_places",
        sa.Column("log", sa.String(128), nullable=False),
        sa.Column("organ", sa.String(128), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", name="pk_webhook_places"),
    )

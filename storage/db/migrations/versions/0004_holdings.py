"""What is kept, and when it was last re-hashed: a work table that fills itself from the log.

Written out and not taken from `storage.db.tables`: history does not change when the tables do.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
floor = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "holdings",
        sa.Column("log", sa.String(128), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("organ", sa.String(128), nullable=False),
        sa.Column("capture", sa.String(64)),
        sa.Column("capture_idx", sa.BigInteger()),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("object", sa.String(64), nullable=False),
        sa.Column("version", sa.String(255)),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.String(128), nullable=False),
        sa.Column("draw", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.PrimaryKeyConstraint("log", "idx", name="pk_holdings"),
    )
    op.create_index(
        "ix_holdings_organ_checked_at_draw", "holdings", ["organ", "checked_at", "draw"]
    )

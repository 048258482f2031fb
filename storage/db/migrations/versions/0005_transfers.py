"""Who is receiving which content, where several nodes could: a work table.

Written out and not taken from `storage.db.tables`: history does not change when the tables do.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
floor = "0001"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "transfers",
        sa.Column("log", sa.String(128), nullable=False),
        sa.Column("capture", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", "capture", name="pk_transfers"),
    )

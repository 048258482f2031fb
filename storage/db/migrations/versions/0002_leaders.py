"""Who leads a log, where several nodes could: a work table, empty on a database of one machine.

Written out and not taken from `storage.db.tables`: history does not change when the tables do.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
floor = "0001"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "leaders",
        sa.Column("log", sa.String(128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.String(128), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", name="pk_leaders"),
    )

"""Erasing a person deletes the stored requests that contain the address: the row stays, the body is NULL."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Allow a receipt without a body; `erased_receipts` has the time of its deletion."""
    op.execute("ALTER TABLE receipts ALTER COLUMN body DROP NOT NULL")

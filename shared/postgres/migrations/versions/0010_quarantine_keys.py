"""Quarantined receipts know their dedup keys; events that are set aside have an index."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add a column to a small table, and a partial index in which few events are."""
    op.execute("ALTER TABLE parked_receipts ADD COLUMN dedup_key uuid")
    op.execute("CREATE INDEX events_set_aside ON events (id) WHERE type = 'unknown'")

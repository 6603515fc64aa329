"""Addresses have one form for all their spellings, and states say whether their time is the provider's."""

from datetime import UTC, datetime

from alembic import op
from sqlalchemy import text

from shared import ids

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column, which is NULL for existing states, and create the job, unless the database is empty.

    Only workers have the secret keys, which the hashes of addresses need.
    """
    op.execute("ALTER TABLE recipient_states ADD COLUMN timed boolean")
    now = datetime.now(UTC)
    create = text(
        "INSERT INTO jobs (id, kind, state, parameters, asked_by, created_at, available_at)"
        " SELECT :id, 'rewrite_addresses', 'queued', '{}', 'migration 0011', :now, :now"
        " WHERE EXISTS (SELECT FROM messages) OR EXISTS (SELECT FROM suppressions)"
    )
    op.get_bind().execute(create, {"id": ids.receipt_id(now), "now": now})

"""Entries of providers' suppression lists that had the year 1970 as their date, because the list had none."""

from alembic import op

revision = "0015"
down_revision = "0013"


def upgrade() -> None:
    """Date these entries by when they were added here."""
    unknown = "origin = 'provider' AND since = '1970-01-01 00:00:00+00'"
    op.execute(f"UPDATE suppressions SET since = created_at WHERE {unknown}")
    op.execute(f"UPDATE suppression_history SET since = at WHERE {unknown}")

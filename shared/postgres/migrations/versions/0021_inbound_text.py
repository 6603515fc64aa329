"""Subscriptions to the text of inbound mail."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Add the option to subscriptions; it is off, because mail contains personal data."""
    op.execute("ALTER TABLE subscriptions ADD COLUMN include_body_text boolean NOT NULL DEFAULT false")

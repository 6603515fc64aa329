"""Events no longer repeat the fields in which they agree with their message."""

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Add the columns. No row is rewritten: the events that are there keep all of their fields."""
    op.execute("ALTER TABLE messages ADD COLUMN first_values json")
    op.execute("ALTER TABLE events ADD COLUMN message_fields smallint")

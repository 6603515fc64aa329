"""The queues from which workers take the events of sources."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Create the table. A source gets its row when its queue is polled for the first time."""
    op.execute(
        """
        CREATE TABLE source_queues (
            source_id bigint PRIMARY KEY,
            next_at timestamptz NOT NULL,
            polled_at timestamptz,
            stored bigint NOT NULL DEFAULT 0,
            refused bigint NOT NULL DEFAULT 0,
            failures integer NOT NULL DEFAULT 0,
            error text
        )
        """
    )

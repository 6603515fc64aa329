"""When each periodic task ran last, so that workers notice that no wake-up comes."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table. It has a row for each periodic task."""
    op.execute(
        """
        CREATE TABLE periodic_tasks (
            task text PRIMARY KEY,
            ran_at timestamptz NOT NULL,
            wake_up_at timestamptz NOT NULL,     -- when a wake-up started it last; a later run was by a worker's clock
            problem text                         -- what a worker then found wrong with the broker
        ) WITH (fillfactor = 50)
        """
    )

"""Deliveries by status code and by its class; events without a message."""

from alembic import op

revision = "0020"
down_revision = "0017"


def upgrade() -> None:
    """Create the indexes, all of them of few rows: what is delivered, and events of a message, are not in them."""
    failed = "WHERE last_http_status < 200 OR last_http_status >= 300"
    op.execute(f"CREATE INDEX deliveries_failed_by_status ON deliveries (last_http_status, id) {failed}")
    op.execute(f"CREATE INDEX deliveries_failed_by_class ON deliveries ((last_http_status / 100), id) {failed}")
    op.execute("CREATE INDEX events_without_message ON events (id) WHERE message_id IS NULL")

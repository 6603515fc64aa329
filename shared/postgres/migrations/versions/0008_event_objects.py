"""What the events of one provider object share is stored once, instead of once for each recipient."""

from alembic import op

revision = "0008"
down_revision = "0007"

# Receipts of earlier weeks can be reprocessed, so every partition of the events needs one beside it.
_PARTITIONS = """
DO $$
DECLARE part record;
BEGIN
    FOR part IN
        SELECT replace(c.relname, 'events_', 'event_objects_') AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid WHERE inhparent = 'events'::regclass
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF event_objects %s', part.name, part.bound);
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Add `event_objects`, and allow events without an object of their own."""
    op.execute(
        "CREATE TABLE event_objects ("
        " id uuid PRIMARY KEY,"  # of the first event of the object
        " data json NOT NULL,"
        " provider_object json NOT NULL"
        ") PARTITION BY RANGE (id)"
    )
    op.execute(_PARTITIONS)
    op.execute("ALTER TABLE events ALTER COLUMN provider_object DROP NOT NULL")

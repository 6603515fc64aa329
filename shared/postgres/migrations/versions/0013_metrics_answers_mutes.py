"""Metrics of all processes; answers of recipients; mutes and reminders of alerts; limits of notification channels."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the tables, fill the metrics with the events of the last days, and add the columns.

    `metric_totals` has a row for each time series and shard. NULL means no mute, no reminder yet, and no limit.
    """
    op.execute(
        """
        CREATE TABLE metric_totals (
            metric text NOT NULL,
            source_id bigint NOT NULL,           -- 0: not about one source
            label text NOT NULL,                 -- an event type, a result, a bucket of a histogram, or a role
            shard smallint NOT NULL,
            total double precision NOT NULL,
            updated_at timestamptz NOT NULL,
            PRIMARY KEY (metric, source_id, label, shard)
        ) WITH (fillfactor = 50)
        """
    )
    op.execute(
        "INSERT INTO metric_totals (metric, source_id, label, shard, total, updated_at)"
        " SELECT 'events', source_id, type, 0, sum(count), max(minute) FROM minute_counts WHERE dimension = ''"
        " GROUP BY source_id, type"
    )
    op.execute(
        "CREATE TABLE recipient_answers ("
        " message_id uuid NOT NULL,"
        " recipient_key text NOT NULL,"
        " place text NOT NULL,"
        " answer text NOT NULL,"
        " answered_at timestamptz NOT NULL,"
        " recorded_by text NOT NULL,"
        " PRIMARY KEY (message_id, recipient_key, place))"
    )
    op.execute("CREATE INDEX recipient_answers_by_time ON recipient_answers (answered_at)")
    op.execute(
        "ALTER TABLE alerts ADD COLUMN muted_until timestamptz, ADD COLUMN muted_by text,"
        " ADD COLUMN reminded_at timestamptz"
    )
    op.execute(
        "ALTER TABLE alert_channels ADD COLUMN sources text[], ADD COLUMN tenants text[], ADD COLUMN rules text[]"
    )

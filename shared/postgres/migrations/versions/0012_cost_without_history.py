"""What an event costs does not depend on what is stored: keys and indexes in the order of time, no object twice."""

from alembic import op

revision = "0012"
down_revision = "0011"

_CREATED_ON = "((created_at AT TIME ZONE 'UTC')::date)"


def upgrade() -> None:
    """Add the columns and replace the indexes. No row is rewritten.

    The minute is 0 for the keys that are there. The key of the messages that are there is NULL: their id is their key.
    Their states have the day 1970-01-01. Events that are there have the object itself, and no place in a body.
    """
    op.execute("ALTER TABLE event_keys ADD COLUMN minute integer NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE event_keys DROP CONSTRAINT event_keys_pkey, ADD PRIMARY KEY (minute, key)")
    op.execute("ALTER TABLE events ADD COLUMN key_minute integer NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE messages ADD COLUMN key uuid")
    op.execute("CREATE UNIQUE INDEX messages_by_key ON messages (coalesce(key, id))")
    op.execute("ALTER TABLE recipient_states ADD COLUMN created_on date NOT NULL DEFAULT '1970-01-01'")
    for table, name, column, day, rows in (
        ("messages", "messages_by_provider_id", "provider_message_id", _CREATED_ON, "provider_message_id IS NOT NULL"),
        ("messages", "messages_by_request", "request_id", _CREATED_ON, "request_id IS NOT NULL"),
        ("recipient_states", "recipient_states_by_recipient", "recipient", "created_on", "recipient <> ''"),
        ("recipient_states", "recipient_states_by_smtp_id", "smtp_id", "created_on", "smtp_id IS NOT NULL"),
    ):
        op.execute(f"DROP INDEX {name}")
        op.execute(f"CREATE INDEX {name} ON {table} ({day}, hashtext({column})) WHERE {rows}")
    for table in ("events", "event_objects"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN object_at integer, ADD COLUMN object_length integer")
    op.execute("ALTER TABLE event_objects ALTER COLUMN provider_object DROP NOT NULL")
    op.execute("ALTER TABLE events ALTER COLUMN receipt_id DROP NOT NULL")

"""Search for messages by parts of addresses and words of subjects."""

from alembic import op

revision = "0016"
down_revision = "0015"

_ENTRIES = 4096


def upgrade() -> None:
    """Create the tables of the search, and queue all messages for it.

    Triggers queue what changes: so do writers of the previous version, and the statement that applies events need not.
    """
    op.execute(
        "CREATE TABLE search_queue ( id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_ids uuid[] NOT NULL)"
    )
    op.execute(
        "CREATE TABLE search_signatures ("
        " id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " oldest_at timestamptz NOT NULL,"
        " newest_at timestamptz NOT NULL,"
        " entries integer NOT NULL,"
        " message_ids bytea NOT NULL,"
        " bits bytea NOT NULL)"
    )
    # Not compressed, so that a slice is read without the rest.
    op.execute(
        "ALTER TABLE search_signatures ALTER COLUMN message_ids SET STORAGE EXTERNAL,"
        " ALTER COLUMN bits SET STORAGE EXTERNAL"
    )
    op.execute("CREATE INDEX search_signatures_by_time ON search_signatures (newest_at, id)")
    op.execute(
        """
        CREATE FUNCTION queue_new_states() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO search_queue (message_ids)
            SELECT array_agg(DISTINCT message_id) FROM added HAVING count(*) > 0;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION queue_message() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO search_queue (message_ids) VALUES (ARRAY[NEW.id]);
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION queue_state() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO search_queue (message_ids) VALUES (ARRAY[NEW.message_id]);
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER queue_new AFTER INSERT ON recipient_states REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION queue_new_states()"
    )
    op.execute(
        "CREATE TRIGGER queue_renamed AFTER UPDATE OF recipient ON recipient_states FOR EACH ROW"
        " WHEN (OLD.recipient IS DISTINCT FROM NEW.recipient) EXECUTE FUNCTION queue_state()"
    )
    op.execute(
        "CREATE TRIGGER queue_changed AFTER UPDATE OF subject, sender, tag, tenant ON messages FOR EACH ROW"
        " WHEN ((OLD.subject, OLD.sender, OLD.tag, OLD.tenant)"
        " IS DISTINCT FROM (NEW.subject, NEW.sender, NEW.tag, NEW.tenant))"
        " EXECUTE FUNCTION queue_message()"
    )
    op.execute(
        "INSERT INTO search_queue (message_ids) SELECT array_agg(id ORDER BY created_at) FROM ("
        "SELECT id, created_at, row_number() OVER (ORDER BY created_at DESC) AS number FROM messages) AS counted"
        f" GROUP BY number / {_ENTRIES} ORDER BY number / {_ENTRIES} DESC"
    )

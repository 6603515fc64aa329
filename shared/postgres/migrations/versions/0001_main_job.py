"""Sources, receipts, events, messages, their states, and the change log."""

from alembic import op

revision = "0001"
down_revision = None

SOURCES = """
CREATE TABLE sources (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    provider text NOT NULL,
    credentials bytea NOT NULL,                  -- JSON, encrypted (shared.encryption)
    settings jsonb NOT NULL DEFAULT '{}',
    fetched_keys jsonb NOT NULL DEFAULT '{}',    -- public keys that workers fetched, by id
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz                       -- the row stays, because receipts refer to it
);

CREATE TABLE api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    prefix text NOT NULL,
    hash bytea NOT NULL UNIQUE,
    scope text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);
"""

# Receipts are written once and never changed. The state of one follows from the small table that holds it:
# pending_receipts (the queue), parked_receipts (unverified, rejected or dead), or neither (processed).
RECEIPTS = """
CREATE TABLE receipts (
    id uuid NOT NULL,                            -- UUIDv7 of the time of arrival
    source_id bigint NOT NULL,
    received_at timestamptz NOT NULL,
    idempotency_key text,                        -- from the provider; NULL: it sent none
    remote_ip text,
    headers json NOT NULL,
    body bytea NOT NULL,                         -- exactly as received
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
ALTER TABLE receipts ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE pending_receipts (
    receipt_id uuid PRIMARY KEY,
    source_id bigint NOT NULL,
    bytes integer NOT NULL,
    available_at timestamptz NOT NULL,
    lease_until timestamptz,
    lease_token uuid,
    attempts smallint NOT NULL DEFAULT 0,
    reprocess boolean NOT NULL DEFAULT false,
    last_error text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- Two indexes, so that new receipts do not wait behind those that are reprocessed.
CREATE INDEX pending_receipts_live ON pending_receipts (receipt_id) WHERE NOT reprocess;
CREATE INDEX pending_receipts_again ON pending_receipts (receipt_id) WHERE reprocess;

CREATE TABLE parked_receipts (
    receipt_id uuid PRIMARY KEY,
    source_id bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('unverified', 'rejected', 'dead')),
    reason text NOT NULL,
    detail text NOT NULL,
    key_id text,
    bytes integer NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    reprocess boolean NOT NULL DEFAULT false,    -- it was parked while it was reprocessed
    available_at timestamptz NOT NULL,
    parked_at timestamptz NOT NULL
);
CREATE INDEX parked_receipts_of_source ON parked_receipts (source_id, state);

CREATE TABLE receipt_keys (
    key uuid PRIMARY KEY,
    receipt_id uuid NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE refusals (
    id uuid PRIMARY KEY,
    source text NOT NULL,
    refused_at timestamptz NOT NULL,
    status_code smallint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    remote_ip text,
    headers json NOT NULL,
    bytes integer NOT NULL,
    count integer NOT NULL DEFAULT 1             -- number of identical refusals
);
"""

EVENTS = """
CREATE TABLE events (
    id uuid NOT NULL,                            -- the receipt's id plus the position in it, plus one
    receipt_id uuid NOT NULL,
    source_id bigint NOT NULL,
    key uuid NOT NULL,
    type text NOT NULL,
    message_id uuid,
    recipient text,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    classification text,
    smtp_status text,
    enhanced_code text,
    reason text,
    data json NOT NULL,                          -- the other fields of the normalized event
    provider_object json NOT NULL,               -- the provider's own object, as it was sent
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX events_of_message ON events (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE event_keys (
    key uuid PRIMARY KEY,
    event_id uuid NOT NULL
);

CREATE TABLE messages (
    id uuid PRIMARY KEY,                         -- hash of the source and the provider's id
    source_id bigint NOT NULL,
    created_at timestamptz NOT NULL,
    first_event_at timestamptz NOT NULL,
    provider_message_id text,
    request_id text,
    smtp_id text,
    sender text,
    subject text,
    tenant text,
    tag text,
    campaign text,
    submitted_at timestamptz
) WITH (fillfactor = 90);
CREATE INDEX messages_by_time ON messages (created_at, id);
CREATE INDEX messages_by_request ON messages (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX messages_by_provider_id ON messages (provider_message_id) WHERE provider_message_id IS NOT NULL;
CREATE INDEX messages_by_sender ON messages (sender, created_at) WHERE sender IS NOT NULL;

-- The recipient '' has the state of the whole message, from events that name no recipient.
CREATE TABLE recipient_states (
    message_id uuid NOT NULL,
    recipient text NOT NULL,
    source_id bigint NOT NULL,
    smtp_id text,
    weight smallint NOT NULL,
    status_at timestamptz NOT NULL,
    rank smallint NOT NULL,
    status_key uuid NOT NULL,
    status text,
    previous_status text,
    status_event_id uuid,
    classification text,
    smtp_status text,
    enhanced_code text,
    reason text,
    opens integer NOT NULL DEFAULT 0,
    clicks integer NOT NULL DEFAULT 0,
    reads integer NOT NULL DEFAULT 0,
    opened_at timestamptz,
    clicked_at timestamptz,
    read_at timestamptz,
    complained_at timestamptz,
    unsubscribed_at timestamptz,
    subscribed_at timestamptz,
    remarks integer NOT NULL DEFAULT 0,          -- events that are logged without changing the status
    version integer NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (message_id, recipient)
) WITH (fillfactor = 80);
CREATE INDEX recipient_states_by_recipient ON recipient_states (recipient, message_id) WHERE recipient <> '';
CREATE INDEX recipient_states_by_smtp_id ON recipient_states (smtp_id) WHERE smtp_id IS NOT NULL;

-- The transaction ids that order the change log. On another server they begin at a low number again. After such a move,
-- functions that continue from the greatest stored number replace these (shared/postgres/transaction_ids.py).
CREATE FUNCTION log_transaction() RETURNS xid8 LANGUAGE sql STABLE AS 'SELECT pg_current_xact_id()';
CREATE FUNCTION log_horizon() RETURNS xid8 LANGUAGE sql STABLE AS 'SELECT pg_snapshot_xmin(pg_current_snapshot())';
CREATE FUNCTION log_beyond() RETURNS xid8 LANGUAGE sql STABLE AS 'SELECT pg_snapshot_xmax(pg_current_snapshot())';

-- Readers follow the order of transactions. Ids are assigned before the commit, so their order is not that of commits.
CREATE TABLE state_changes (
    id bigint GENERATED ALWAYS AS IDENTITY,
    transaction xid8 NOT NULL DEFAULT log_transaction(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    type text NOT NULL,
    source_id bigint NOT NULL,
    message_id uuid,
    recipient text,
    event_id uuid,
    status text,
    previous_status text,
    version integer,
    PRIMARY KEY (transaction, id)
);
"""


def upgrade() -> None:
    """Create the tables."""
    for statements in (SOURCES, RECEIPTS, EVENTS):
        op.execute(statements)

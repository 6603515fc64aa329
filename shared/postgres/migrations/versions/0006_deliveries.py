"""Downstream: subscriptions to the log of changes, and what became of every delivery."""

from alembic import op

revision = "0006"
down_revision = "0005"

LOG = """
-- How far the log of changes reached at a moment: what retention lets go of, it lets go of up to one of these.
CREATE TABLE change_marks (
    at timestamptz PRIMARY KEY,
    transaction xid8 NOT NULL,
    id bigint NOT NULL
);

-- Up to here, and including it, the log was let go of; no row: nothing was yet.
CREATE TABLE change_floor (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    transaction xid8 NOT NULL,
    id bigint NOT NULL
);
"""

SUBSCRIPTIONS = """
CREATE TABLE subscriptions (
    id uuid PRIMARY KEY,                         -- version 7
    name text NOT NULL,
    url text NOT NULL,
    types text[] NOT NULL,                       -- such as message.* and alert.firing
    sources text[] NOT NULL DEFAULT '{}',        -- slugs; empty: all, as with the following
    tenant text,                                 -- the tenant that it belongs to; NULL: all
    recipient_domains text[] NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    headers bytea NOT NULL,                      -- static headers, encrypted (shared.encryption)
    secrets bytea NOT NULL,                      -- what is signed with, encrypted: of several until they expire
    payload text NOT NULL CHECK (payload IN ('tidings', 'cloudevents')),
    timeout_s smallint NOT NULL,
    retry_schedule integer[] NOT NULL,           -- seconds before each retry
    rate_per_second real,                        -- NULL: as fast as it answers
    concurrency smallint NOT NULL,
    ordered boolean NOT NULL,                    -- changes of one message one after the other
    state text NOT NULL CHECK (state IN ('active', 'paused', 'disabled')),
    state_reason text,
    state_since timestamptz NOT NULL,
    -- Transactions before this one were over when it was made: their changes are none of its.
    begins xid8 NOT NULL DEFAULT log_horizon(),
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);

-- Grows with every change of a subscription, so that whoever keeps them in memory knows when to look again.
CREATE TABLE subscriptions_stamp (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    version bigint NOT NULL
);
INSERT INTO subscriptions_stamp (version) VALUES (0);
CREATE FUNCTION stamp_subscriptions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE subscriptions_stamp SET version = version + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER stamp AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION stamp_subscriptions();

-- How an endpoint fares; apart from the subscription, because it is written with every batch of attempts.
CREATE TABLE endpoint_health (
    subscription_id uuid PRIMARY KEY,
    failures integer NOT NULL DEFAULT 0,         -- since the last success
    strikes integer NOT NULL DEFAULT 0,          -- those in a row that tell of the endpoint: what opens the breaker
    openings integer NOT NULL DEFAULT 0,         -- of the breaker, in a row: meanwhile one at a time is tried
    failing_since timestamptz,
    open_until timestamptz,                      -- until then nothing is claimed for it
    paced_until timestamptz,                     -- where a rate is set: up to when it is used up
    last_success_at timestamptz,
    last_failure_at timestamptz,
    last_error text
) WITH (fillfactor = 60);

-- How far the log has been turned into deliveries.
CREATE TABLE fan_out (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    transaction xid8 NOT NULL,
    id bigint NOT NULL
);
INSERT INTO fan_out (transaction, id) VALUES ('0', 0);
"""

# Deliveries are kept; which are still to be made is told by a small table beside them, as with receipts.
DELIVERIES = """
CREATE TABLE deliveries (
    id uuid NOT NULL,                            -- version 7
    subscription_id uuid NOT NULL,
    change_transaction xid8 NOT NULL,
    change_id bigint NOT NULL,
    type text NOT NULL,
    message_id uuid,
    status text NOT NULL CHECK (status IN ('pending', 'delivered', 'retry', 'dead', 'quarantined')),
    attempts smallint NOT NULL DEFAULT 0,
    last_http_status smallint,                   -- 0: no response
    last_error text,
    next_attempt_at timestamptz,
    delivered_at timestamptz,
    dead_at timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX deliveries_of_subscription ON deliveries (subscription_id, change_transaction, change_id);
CREATE INDEX deliveries_of_message ON deliveries (message_id, id) WHERE message_id IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (dead_at) WHERE status = 'dead';
CREATE INDEX deliveries_undelivered ON deliveries (status, id) WHERE status IN ('retry', 'dead', 'quarantined');
CREATE INDEX deliveries_undelivered_to ON deliveries (subscription_id, status, id)
    WHERE status IN ('retry', 'dead', 'quarantined');

CREATE TABLE pending_deliveries (
    delivery_id uuid PRIMARY KEY,
    subscription_id uuid NOT NULL,
    change_transaction xid8 NOT NULL,
    change_id bigint NOT NULL,
    message_id uuid,
    lane smallint NOT NULL,                      -- 0: fresh, 1: retries and replays, 2: held back by an earlier one
    available_at timestamptz NOT NULL,
    ordered boolean NOT NULL DEFAULT false,      -- others of its message wait for it
    attempts smallint NOT NULL DEFAULT 0,        -- since it was made, or replayed
    again boolean NOT NULL DEFAULT false,        -- a replay was asked for while an attempt was under way
    lapses smallint NOT NULL DEFAULT 0,          -- leases in a row that ran out without a word
    lease_until timestamptz,
    lease_token uuid
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX pending_deliveries_due
    ON pending_deliveries (subscription_id, lane, available_at, change_transaction, change_id);
CREATE INDEX pending_deliveries_in_order
    ON pending_deliveries (subscription_id, message_id, change_transaction, change_id) WHERE ordered;

CREATE TABLE delivery_attempts (
    id uuid NOT NULL,                            -- version 7
    delivery_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    number smallint NOT NULL,
    created_at timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('success', 'failed')),
    http_status smallint NOT NULL,               -- 0: no response
    latency_ms integer NOT NULL,
    request_capture json NOT NULL,
    response_capture json NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX delivery_attempts_of_delivery ON delivery_attempts (delivery_id, id);
"""

# Who changed what, over the API or by a command.
AUDIT = """
CREATE TABLE audit_log (
    id uuid PRIMARY KEY,                         -- version 7: by time
    at timestamptz NOT NULL,
    actor text NOT NULL,                         -- key:<id>:<name> or command:<user>
    tenant text,                                 -- that of the key
    action text NOT NULL,                        -- such as source.created
    object text NOT NULL,                        -- such as source:main
    details jsonb NOT NULL DEFAULT '{}'          -- what was asked for, or what it was before and after; no secrets
);

-- Answers to POSTs that named an Idempotency-Key, so that a repetition gets the same.
CREATE TABLE idempotent_answers (
    key uuid PRIMARY KEY,                        -- of the caller, the path and the Idempotency-Key
    request_hash bytea NOT NULL,
    status_code smallint,                        -- NULL while it is being answered
    headers json,
    body bytea,                                  -- encrypted (shared.encryption): it may show a secret
    created_at timestamptz NOT NULL
);
CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at);

ALTER TABLE api_keys ADD COLUMN tenant text;     -- NULL: every tenant
ALTER TABLE jobs ADD COLUMN tenant text;         -- whose it is: that of the key that asked for it; NULL: nobody's
CREATE INDEX jobs_of_tenant ON jobs (tenant, id) WHERE tenant IS NOT NULL;
"""


def upgrade() -> None:
    """Make the tables."""
    for statements in (LOG, SUBSCRIPTIONS, DELIVERIES, AUDIT):
        op.execute(statements)

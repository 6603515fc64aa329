"""Subscriptions to the change log, deliveries, the audit log, and stored answers for idempotency keys."""

from alembic import op

revision = "0006"
down_revision = "0005"

LOG = """
-- Positions of the change log over time. Retention deletes changes up to one of these.
CREATE TABLE change_marks (
    at timestamptz PRIMARY KEY,
    transaction xid8 NOT NULL,
    id bigint NOT NULL
);

-- Changes up to and including this one are deleted. No row: none are.
CREATE TABLE change_floor (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    transaction xid8 NOT NULL,
    id bigint NOT NULL
);
"""

SUBSCRIPTIONS = """
CREATE TABLE subscriptions (
    id uuid PRIMARY KEY,                         -- UUIDv7
    name text NOT NULL,
    url text NOT NULL,
    types text[] NOT NULL,                       -- such as message.* and alert.firing
    sources text[] NOT NULL DEFAULT '{}',        -- slugs; empty: all, also in the next columns
    tenant text,                                 -- whose changes it gets; NULL: all tenants
    recipient_domains text[] NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    headers bytea NOT NULL,                      -- static headers, encrypted (shared.encryption)
    secrets bytea NOT NULL,                      -- signing secrets, encrypted; old ones until they expire
    payload text NOT NULL CHECK (payload IN ('tidings', 'cloudevents')),
    timeout_s smallint NOT NULL,
    retry_schedule integer[] NOT NULL,           -- seconds before each retry
    rate_per_second real,                        -- NULL: no limit
    concurrency smallint NOT NULL,
    ordered boolean NOT NULL,                    -- sends the changes of one message one by one
    state text NOT NULL CHECK (state IN ('active', 'paused', 'disabled')),
    state_reason text,
    state_since timestamptz NOT NULL,
    -- Transactions before this one had ended when it was created, so it gets none of their changes.
    begins xid8 NOT NULL DEFAULT log_horizon(),
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);

-- Grows with every change of a subscription. Deliverers compare it to know when to load subscriptions again.
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

-- The health of an endpoint. Not in the subscription's row, because every batch of attempts writes it.
CREATE TABLE endpoint_health (
    subscription_id uuid PRIMARY KEY,
    failures integer NOT NULL DEFAULT 0,         -- since the last success
    strikes integer NOT NULL DEFAULT 0,          -- failures in a row that count for the circuit breaker
    openings integer NOT NULL DEFAULT 0,         -- of the breaker in a row; it then allows one at a time
    failing_since timestamptz,
    open_until timestamptz,                      -- no delivery is claimed before this time
    paced_until timestamptz,                     -- until when its rate is used up, if it has one
    last_success_at timestamptz,
    last_failure_at timestamptz,
    last_error text
) WITH (fillfactor = 60);

-- How far the change log has been turned into deliveries.
CREATE TABLE fan_out (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    transaction xid8 NOT NULL,
    id bigint NOT NULL
);
INSERT INTO fan_out (transaction, id) VALUES ('0', 0);
"""

# Deliveries are kept. A small table has those that are still to be sent, as with receipts.
DELIVERIES = """
CREATE TABLE deliveries (
    id uuid NOT NULL,                            -- UUIDv7
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
    lane smallint NOT NULL,                      -- 0: new, 1: retries and replays, 2: waits for an earlier one
    available_at timestamptz NOT NULL,
    ordered boolean NOT NULL DEFAULT false,      -- later ones of its message wait for it
    attempts smallint NOT NULL DEFAULT 0,        -- since it was created or replayed
    again boolean NOT NULL DEFAULT false,        -- a replay was requested during an attempt
    lapses smallint NOT NULL DEFAULT 0,          -- leases in a row that expired without an outcome
    lease_until timestamptz,
    lease_token uuid
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX pending_deliveries_due
    ON pending_deliveries (subscription_id, lane, available_at, change_transaction, change_id);
CREATE INDEX pending_deliveries_in_order
    ON pending_deliveries (subscription_id, message_id, change_transaction, change_id) WHERE ordered;

CREATE TABLE delivery_attempts (
    id uuid NOT NULL,                            -- UUIDv7
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

# Who changed what, by the API or by a command.
AUDIT = """
CREATE TABLE audit_log (
    id uuid PRIMARY KEY,                         -- UUIDv7
    at timestamptz NOT NULL,
    actor text NOT NULL,                         -- key:<id>:<name> or command:<user>
    tenant text,                                 -- of the key
    action text NOT NULL,                        -- such as source.created
    object text NOT NULL,                        -- such as source:main
    details jsonb NOT NULL DEFAULT '{}'          -- the request, or the values before and after; no secrets
);

-- Answers to POST requests with an Idempotency-Key, for repetitions.
CREATE TABLE idempotent_answers (
    key uuid PRIMARY KEY,                        -- hash of the caller, the path and the Idempotency-Key
    request_hash bytea NOT NULL,
    status_code smallint,                        -- NULL until it is answered
    headers json,
    body bytea,                                  -- encrypted (shared.encryption): it may show a secret
    created_at timestamptz NOT NULL
);
CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at);

ALTER TABLE api_keys ADD COLUMN tenant text;     -- NULL: all tenants
ALTER TABLE jobs ADD COLUMN tenant text;         -- of the key that created it; NULL: no tenant
CREATE INDEX jobs_of_tenant ON jobs (tenant, id) WHERE tenant IS NOT NULL;
"""


def upgrade() -> None:
    """Create the tables."""
    for statements in (LOG, SUBSCRIPTIONS, DELIVERIES, AUDIT):
        op.execute(statements)

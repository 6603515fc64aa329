"""Alerts, the counts that they measure, and the channels that are notified."""

from alembic import op

revision = "0004"
down_revision = "0003"

COUNTS = """
-- Events by the minute in which they happened; by the hour after two hours. A dimension is '' (all of
-- the source), 'tenant', 'sender_domain', 'recipient_domain', or 'refusals' (requests, by the reason of their refusal).
-- Shards keep workers from waiting for one another.
CREATE TABLE minute_counts (
    dimension text NOT NULL,
    minute timestamptz NOT NULL,
    source_id bigint NOT NULL,
    value text NOT NULL,
    type text NOT NULL,
    shard smallint NOT NULL,
    count integer NOT NULL,
    last_event_id uuid NOT NULL,
    PRIMARY KEY (dimension, minute, source_id, value, type, shard)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);

-- Alert rules look often for announced messages without events, dead receipts and unverified requests, which are few.
CREATE INDEX messages_awaited ON messages (source_id, submitted_at) WHERE first_event_at = 'infinity';
CREATE INDEX parked_receipts_dead ON parked_receipts (parked_at) WHERE state = 'dead' AND NOT reprocess;
CREATE INDEX parked_receipts_unverified ON parked_receipts (source_id, receipt_id) WHERE state = 'unverified';
"""

ALERTS = """
-- The rules file that was accepted last. It stays in force while a newer one is invalid. No row: no file is set.
CREATE TABLE rules_in_force (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    path text NOT NULL,
    text text NOT NULL,
    accepted_at timestamptz NOT NULL
);

-- Rules created by the API, in addition to those of the file.
CREATE TABLE alert_rules (
    name text PRIMARY KEY,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    created_by text NOT NULL
);

CREATE TABLE alerts (
    id uuid PRIMARY KEY,                         -- UUIDv7
    rule text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,                       -- source, tenant or domain; one alert for each
    severity text NOT NULL,
    state text NOT NULL CHECK (state IN ('firing', 'resolved')),
    source_id bigint,
    tenant text,
    summary text NOT NULL,
    numbers jsonb NOT NULL,                      -- when its condition held last; the summary too
    evidence_event_id uuid,
    started_at timestamptz NOT NULL,
    judged_at timestamptz NOT NULL,
    calm_since timestamptz,                      -- when its condition ceased to hold
    resolved_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text
);
CREATE UNIQUE INDEX alerts_firing ON alerts (rule, subject) WHERE state = 'firing';
CREATE INDEX alerts_firing_by_time ON alerts (id) WHERE state = 'firing';
CREATE INDEX alerts_of_subject ON alerts (rule, subject, id);

-- The history of an alert: fired, escalated, resolved, acknowledged; with the numbers of that moment.
CREATE TABLE alert_steps (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id uuid NOT NULL,
    at timestamptz NOT NULL,
    step text NOT NULL,
    severity text NOT NULL,
    summary text NOT NULL,
    numbers jsonb NOT NULL,
    actor text
);
CREATE INDEX alert_steps_of_alert ON alert_steps (alert_id, id);

CREATE TABLE alert_channels (
    name text PRIMARY KEY,
    kind text NOT NULL,                          -- webhook, apprise
    target bytea NOT NULL,                       -- URL and secrets, encrypted (shared.encryption)
    least_severity text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    told_at timestamptz,                         -- when it was last notified
    failures integer NOT NULL DEFAULT 0,         -- in a row
    failing_since timestamptz,
    last_error text,
    rests_until timestamptz,                     -- no notification before this time
    lease_until timestamptz,                     -- one worker at a time notifies a channel
    lease_token uuid
) WITH (fillfactor = 70);

-- The alerts of which each channel is to be notified, or was.
CREATE TABLE alert_notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,
    step_id bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'sent', 'dead')),
    attempts smallint NOT NULL DEFAULT 0,
    enqueued_at timestamptz NOT NULL,
    available_at timestamptz NOT NULL,
    telling uuid,                                -- the notification that contains it
    last_error text,
    sent_at timestamptz,
    UNIQUE (channel, step_id)
) WITH (fillfactor = 70);
CREATE INDEX alert_notices_pending ON alert_notices (channel, available_at, id) WHERE state = 'pending';
CREATE INDEX alert_notices_by_time ON alert_notices (enqueued_at);
CREATE INDEX alert_notices_of_step ON alert_notices (step_id);
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(COUNTS)
    op.execute(ALERTS)

"""Alerts: what a person must be told, the counts that tell it, and where it is told."""

from alembic import op

revision = "0004"
down_revision = "0003"

COUNTS = """
-- Events by the minute in which they happened; what is older than two hours, by the hour. A dimension is '' (all of
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

-- Announced messages of which nothing was heard, dead receipts, and requests that are not verified yet: few of many,
-- and looked for again and again.
CREATE INDEX messages_awaited ON messages (source_id, submitted_at) WHERE first_event_at = 'infinity';
CREATE INDEX parked_receipts_dead ON parked_receipts (parked_at) WHERE state = 'dead' AND NOT reprocess;
CREATE INDEX parked_receipts_unverified ON parked_receipts (source_id, receipt_id) WHERE state = 'unverified';
"""

ALERTS = """
-- The rules file that was accepted last: what holds while a newer one is wrong. No row: no file is named.
CREATE TABLE rules_in_force (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    path text NOT NULL,
    text text NOT NULL,
    accepted_at timestamptz NOT NULL
);

-- Rules made over the API, besides those of the file.
CREATE TABLE alert_rules (
    name text PRIMARY KEY,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    created_by text NOT NULL
);

CREATE TABLE alerts (
    id uuid PRIMARY KEY,                         -- version 7
    rule text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,                       -- what tells it from others of its rule: source, tenant or domain
    severity text NOT NULL,
    state text NOT NULL CHECK (state IN ('firing', 'resolved')),
    source_id bigint,
    tenant text,
    summary text NOT NULL,
    numbers jsonb NOT NULL,                      -- as they were when its condition held last, as the summary
    evidence_event_id uuid,
    started_at timestamptz NOT NULL,
    judged_at timestamptz NOT NULL,
    calm_since timestamptz,                      -- since when its condition no longer holds
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
    told_at timestamptz,                         -- for the last time
    failures integer NOT NULL DEFAULT 0,         -- in a row
    failing_since timestamptz,
    last_error text,
    rests_until timestamptz,                     -- nothing is told before
    lease_until timestamptz,                     -- one worker at a time tells a channel
    lease_token uuid
) WITH (fillfactor = 70);

-- What each channel still has to be told, and was told.
CREATE TABLE alert_notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,
    step_id bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'sent', 'dead')),
    attempts smallint NOT NULL DEFAULT 0,
    enqueued_at timestamptz NOT NULL,
    available_at timestamptz NOT NULL,
    telling uuid,                                -- the message that it is told in, alone or with others
    last_error text,
    sent_at timestamptz,
    UNIQUE (channel, step_id)
) WITH (fillfactor = 70);
CREATE INDEX alert_notices_pending ON alert_notices (channel, available_at, id) WHERE state = 'pending';
CREATE INDEX alert_notices_by_time ON alert_notices (enqueued_at);
CREATE INDEX alert_notices_of_step ON alert_notices (step_id);
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute(COUNTS)
    op.execute(ALERTS)

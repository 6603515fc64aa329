"""The suppression list, its history, and the soft bounces that decide about entries."""

from alembic import op

revision = "0003"
down_revision = "0002"

# A change may be about something other than a message; `data` describes it.
CHANGES = """
ALTER TABLE state_changes ALTER COLUMN source_id DROP NOT NULL;
ALTER TABLE state_changes ADD COLUMN data jsonb;
"""

# An address has one entry for each reason and origin. So entries of events depend on events alone, and events do not
# change an entry that a person made.
SUPPRESSIONS = """
CREATE TABLE peppers (
    name text PRIMARY KEY,
    sealed bytea NOT NULL                        -- the key of the recipient hashes, encrypted
);

CREATE TABLE suppressions (
    key uuid NOT NULL,                           -- keyed hash of the address, or of '@' and the domain
    tenant text NOT NULL,                        -- '': all tenants
    reason text NOT NULL,
    origin text NOT NULL,
    id uuid NOT NULL UNIQUE,                     -- UUIDv7 of its last announcement as a change
    address text,                                -- address or domain; neither after an erasure
    domain text,
    types text[] NOT NULL,
    classification text,
    source_id bigint,
    since timestamptz NOT NULL,
    until timestamptz,                           -- NULL: no end
    expired_at timestamptz,                      -- when its end was logged as a change
    evidence_event_id uuid,
    evidence_key uuid,
    level smallint NOT NULL DEFAULT 1,           -- number of suppressions in a row; each is longer
    actor text,
    note text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (key, tenant, reason, origin)
);
CREATE INDEX suppressions_by_end ON suppressions (until) WHERE until IS NOT NULL AND expired_at IS NULL;
CREATE INDEX suppressions_by_evidence ON suppressions (evidence_event_id) WHERE evidence_event_id IS NOT NULL;
-- For a lookup at every delivery, which hardly ever finds an entry.
CREATE INDEX suppressions_for_soft_bounces ON suppressions USING hash (address)
    WHERE reason = 'soft_bounce' AND origin = 'event';

-- An event from before a lift suppresses nobody, even if it arrives later. NULL: every tenant, every reason.
-- by_event: the recipient subscribed again.
CREATE TABLE suppression_lifts (
    key uuid NOT NULL,
    tenant text,
    reason text,
    by_event boolean NOT NULL,
    lifted_at timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (key, tenant, reason, by_event)
);

CREATE TABLE suppression_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key uuid NOT NULL,
    tenant text NOT NULL,
    at timestamptz NOT NULL,
    action text NOT NULL,                        -- added, lifted, expired, withdrawn, erased
    reason text NOT NULL,
    types text[] NOT NULL,
    classification text,
    origin text NOT NULL,
    source_id bigint,
    since timestamptz,
    until timestamptz,
    level smallint NOT NULL,
    event_id uuid,                               -- the event that caused the action
    actor text,
    note text
);
CREATE INDEX suppression_history_of_key ON suppression_history (key, id);
"""

SOFT_BOUNCES = """
-- The first and the last soft bounce of each message to a recipient, which the soft-bounce rule evaluates.
CREATE TABLE soft_bounces (
    recipient text NOT NULL,
    tenant text NOT NULL,                        -- '': all tenants
    message_id uuid NOT NULL,
    source_id bigint NOT NULL,
    first_at timestamptz NOT NULL,
    first_key uuid NOT NULL,
    first_event_id uuid NOT NULL,
    last_at timestamptz NOT NULL,
    last_key uuid NOT NULL,
    last_event_id uuid NOT NULL,
    classification text,                         -- of the first
    PRIMARY KEY (recipient, tenant, message_id)
) WITH (fillfactor = 80);
-- Rows arrive nearly in the order of time, so a BRIN index costs a batch little. Retention uses it.
CREATE INDEX soft_bounces_by_time ON soft_bounces USING brin (first_at) WITH (pages_per_range = 32);

-- Recipients to evaluate by that rule. Rows are only appended, so no batch waits for another.
CREATE TABLE soft_bounce_checks (
    due_at timestamptz NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    recipient text NOT NULL,
    tenant text NOT NULL,
    PRIMARY KEY (due_at, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(CHANGES)
    op.execute(SUPPRESSIONS)
    op.execute(SOFT_BOUNCES)

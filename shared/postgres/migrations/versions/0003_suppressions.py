"""Suppressions: whom not to write to, why, and since when."""

from alembic import op

revision = "0003"
down_revision = "0002"

# A change need not be about a message any more: then `data` says what it is about.
CHANGES = """
ALTER TABLE state_changes ALTER COLUMN source_id DROP NOT NULL;
ALTER TABLE state_changes ADD COLUMN data jsonb;
"""

# Several reasons stand side by side, and so does what different origins say: what events give is a function of
# events alone, and a person's word is not changed by them.
SUPPRESSIONS = """
CREATE TABLE peppers (
    name text PRIMARY KEY,
    sealed bytea NOT NULL                        -- the key of keyed hashes, encrypted (shared.encryption)
);

CREATE TABLE suppressions (
    key uuid NOT NULL,                           -- keyed hash of the address, or of '@' and the domain
    tenant text NOT NULL,                        -- '' for all
    reason text NOT NULL,
    origin text NOT NULL,
    id uuid NOT NULL UNIQUE,                     -- version 7: made when it was announced last
    address text,                                -- of address and domain one; neither after erasure
    domain text,
    types text[] NOT NULL,
    classification text,
    source_id bigint,
    since timestamptz NOT NULL,
    until timestamptz,                           -- NULL: for good
    expired_at timestamptz,                      -- its end was noticed, and announced
    evidence_event_id uuid,
    evidence_key uuid,
    level smallint NOT NULL DEFAULT 1,           -- the how manyeth time, where that makes it longer
    actor text,
    note text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (key, tenant, reason, origin)
);
CREATE INDEX suppressions_by_end ON suppressions (until) WHERE until IS NOT NULL AND expired_at IS NULL;
CREATE INDEX suppressions_by_evidence ON suppressions (evidence_event_id) WHERE evidence_event_id IS NOT NULL;
-- Asked for every delivery, and nearly always in vain.
CREATE INDEX suppressions_for_soft_bounces ON suppressions USING hash (address)
    WHERE reason = 'soft_bounce' AND origin = 'event';

-- What happened or arrived before a lift suppresses no more, whenever it is heard of. NULL stands for every tenant
-- and every reason. By event: the recipient subscribed again, and what follows on that still counts.
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
    event_id uuid,                               -- what it was added, lifted or withdrawn for
    actor text,
    note text
);
CREATE INDEX suppression_history_of_key ON suppression_history (key, id);
"""

SOFT_BOUNCES = """
-- The first and the last soft bounce of each message to a recipient: what the rule about several messages is judged by.
CREATE TABLE soft_bounces (
    recipient text NOT NULL,
    tenant text NOT NULL,                        -- '' for all
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
-- They come in about the order of time, so this costs a batch next to nothing, and serves to let go of the old.
CREATE INDEX soft_bounces_by_time ON soft_bounces USING brin (first_at) WITH (pages_per_range = 32);

-- Recipients to be judged anew by that rule. Appended to, so that no batch waits for another.
CREATE TABLE soft_bounce_checks (
    due_at timestamptz NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    recipient text NOT NULL,
    tenant text NOT NULL,
    PRIMARY KEY (due_at, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute(CHANGES)
    op.execute(SUPPRESSIONS)
    op.execute(SOFT_BOUNCES)

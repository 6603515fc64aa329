"""Reconciliation: webhooks that providers could not deliver to us, and their resends."""

from alembic import op

revision = "0005"
down_revision = "0004"

RECONCILIATION = """
-- One row for each source that is reconciled, with its progress.
CREATE TABLE reconciliations (
    source_id bigint PRIMARY KEY,
    reconciled_until timestamptz,                -- failures before this time are listed
    next_at timestamptz NOT NULL,
    lease_until timestamptz,
    lease_token uuid,
    last_started_at timestamptz,
    last_finished_at timestamptz,
    last_error text,
    failures smallint NOT NULL DEFAULT 0,        -- in a row
    enrolled boolean,                            -- whether our webhook is registered; NULL: unknown
    validated boolean,                           -- whether its test reached us; NULL: unknown
    webhooks jsonb NOT NULL DEFAULT '[]',        -- as the provider listed them last
    checked_at timestamptz,                      -- when the webhooks were listed
    validated_at timestamptz                     -- when the test was run
);
CREATE INDEX reconciliations_due ON reconciliations (next_at);

-- Webhooks that a provider could not deliver, such as a batch of MailChannels or a delivery of Ark.
CREATE TABLE failed_deliveries (
    source_id bigint NOT NULL,
    reference text NOT NULL,                     -- the provider's id
    failed_at timestamptz NOT NULL,
    outcome text NOT NULL,                       -- 4xx, 5xx, no_response …
    status_code smallint,
    events integer NOT NULL,
    url text,
    state text NOT NULL CHECK (state IN ('listed', 'resent', 'recovered', 'given_up')),
    attempts smallint NOT NULL DEFAULT 0,
    last_attempt_at timestamptz,
    next_attempt_at timestamptz,                 -- NULL: at once
    last_error text,
    receipt_id uuid,                             -- the receipt of the resend
    new_events integer,                          -- number of its events that were missing
    listed_at timestamptz NOT NULL,
    given_up_at timestamptz,
    PRIMARY KEY (source_id, reference)
);
CREATE INDEX failed_deliveries_open ON failed_deliveries (source_id, attempts, failed_at)
    WHERE state IN ('listed', 'resent');
CREATE INDEX failed_deliveries_unsettled ON failed_deliveries (source_id)
    WHERE state = 'recovered' AND new_events IS NULL;
CREATE INDEX failed_deliveries_filled ON failed_deliveries (source_id, last_attempt_at) WHERE new_events > 0;
CREATE INDEX failed_deliveries_given_up ON failed_deliveries (given_up_at) WHERE state = 'given_up';
CREATE INDEX failed_deliveries_by_time ON failed_deliveries (source_id, failed_at, reference);
CREATE INDEX failed_deliveries_by_age ON failed_deliveries (failed_at);

-- The provider's records of resends that we requested, which must not be resent themselves.
CREATE TABLE resend_records (
    source_id bigint NOT NULL,
    reference text NOT NULL,
    resent text NOT NULL,                        -- the failed delivery that it repeats
    made_at timestamptz NOT NULL,
    PRIMARY KEY (source_id, reference)
);
CREATE INDEX resend_records_by_age ON resend_records (made_at);

-- Receipts that arrived because we requested them.
CREATE TABLE reconciled_receipts (
    receipt_id uuid PRIMARY KEY,
    source_id bigint NOT NULL,
    reference text NOT NULL,
    reconciled_at timestamptz NOT NULL
);
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(RECONCILIATION)

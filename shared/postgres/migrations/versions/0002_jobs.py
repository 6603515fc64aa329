"""Jobs: long work with progress, which continues after a crash and can be cancelled."""

from alembic import op

revision = "0002"
down_revision = "0001"

JOBS = """
CREATE TABLE jobs (
    id uuid PRIMARY KEY,                         -- UUIDv7 of the time of the request
    kind text NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    parameters jsonb NOT NULL,
    done bigint NOT NULL DEFAULT 0,
    total bigint,                                -- NULL until it is known
    position jsonb NOT NULL DEFAULT '{}',        -- where to continue after a crash
    report jsonb NOT NULL DEFAULT '{}',
    error text,
    asked_by text NOT NULL,
    cancel_asked boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    available_at timestamptz NOT NULL,           -- its next turn, or the end of a worker's lease
    lease_token uuid,
    attempts smallint NOT NULL DEFAULT 0         -- since its last progress
) WITH (fillfactor = 70);
CREATE INDEX jobs_open ON jobs (available_at, id) WHERE state IN ('queued', 'running');

-- The input and the output of a job, in parts.
CREATE TABLE job_files (
    job_id uuid NOT NULL,
    name text NOT NULL,
    part integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (job_id, name, part)
);
"""

# Rows of an import that are checked, until all of them are added to the list at once.
STAGED = """
CREATE TABLE staged_suppressions (
    job_id uuid NOT NULL,
    key uuid NOT NULL,
    tenant text NOT NULL,
    reason text NOT NULL,
    address text,
    domain text,
    types text[] NOT NULL,
    classification text,
    until timestamptz,
    note text,
    PRIMARY KEY (job_id, key, tenant, reason)
);
"""

# Receipts in which an address was replaced, so their bodies no longer match their signatures.
ERASED = """
CREATE TABLE erased_receipts (
    receipt_id uuid PRIMARY KEY,
    erased_at timestamptz NOT NULL
);
"""


def upgrade() -> None:
    """Create the tables."""
    for statements in (JOBS, STAGED, ERASED):
        op.execute(statements)

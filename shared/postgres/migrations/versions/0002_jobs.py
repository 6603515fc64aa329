"""Long work: jobs that are kept, go on after a crash, and can be watched and cancelled."""

from alembic import op

revision = "0002"
down_revision = "0001"

JOBS = """
CREATE TABLE jobs (
    id uuid PRIMARY KEY,                         -- version 7: made at the time it was asked for
    kind text NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    parameters jsonb NOT NULL,
    done bigint NOT NULL DEFAULT 0,
    total bigint,                                -- NULL until it is known
    position jsonb NOT NULL DEFAULT '{}',        -- where to go on after a crash
    report jsonb NOT NULL DEFAULT '{}',
    error text,
    asked_by text NOT NULL,
    cancel_asked boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    available_at timestamptz NOT NULL,           -- its turn, or the end of the lease of who holds it
    lease_token uuid,
    attempts smallint NOT NULL DEFAULT 0         -- since it last got on
) WITH (fillfactor = 70);
CREATE INDEX jobs_open ON jobs (available_at, id) WHERE state IN ('queued', 'running');

-- What a job reads ('input') and makes ('output'), in parts.
CREATE TABLE job_files (
    job_id uuid NOT NULL,
    name text NOT NULL,
    part integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (job_id, name, part)
);
"""

# What an import has read and checked, until all of it goes on the list at once.
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

# Receipts in whose bytes an address was replaced: they are no longer what was signed.
ERASED = """
CREATE TABLE erased_receipts (
    receipt_id uuid PRIMARY KEY,
    erased_at timestamptz NOT NULL
);
"""


def upgrade() -> None:
    """Make the tables."""
    for statements in (JOBS, STAGED, ERASED):
        op.execute(statements)

"""The tables of reconciliation. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.postgres.metadata import Timestamp, metadata

failed_deliveries = Table(
    "failed_deliveries",
    metadata,
    Column("source_id", BigInteger, nullable=False),
    Column("reference", Text, nullable=False),
    Column("failed_at", Timestamp, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status_code", SmallInteger),
    Column("events", Integer, nullable=False),
    Column("url", Text),
    Column("state", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("last_attempt_at", Timestamp),
    Column("next_attempt_at", Timestamp),
    Column("last_error", Text),
    Column("receipt_id", Uuid),
    Column("new_events", Integer),
    Column("listed_at", Timestamp, nullable=False),
    Column("given_up_at", Timestamp),
    PrimaryKeyConstraint("source_id", "reference"),
    CheckConstraint("state IN ('listed', 'resent', 'recovered', 'given_up')", name="failed_deliveries_state_check"),
    Index("failed_deliveries_by_age", "failed_at"),
    Index("failed_deliveries_by_time", "source_id", "failed_at", "reference"),
    Index("failed_deliveries_filled", "source_id", "last_attempt_at", postgresql_where=text("new_events > 0")),
    Index("failed_deliveries_given_up", "given_up_at", postgresql_where=text("state = 'given_up'")),
    Index(
        "failed_deliveries_open",
        "source_id",
        "attempts",
        "failed_at",
        postgresql_where=text("state IN ('listed', 'resent')"),
    ),
    Index(
        "failed_deliveries_unsettled",
        "source_id",
        postgresql_where=text("(state = 'recovered') AND (new_events IS NULL)"),
    ),
)

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("source_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reconciled_until", Timestamp),
    Column("next_at", Timestamp, nullable=False),
    Column("lease_until", Timestamp),
    Column("lease_token", Uuid),
    Column("last_started_at", Timestamp),
    Column("last_finished_at", Timestamp),
    Column("last_error", Text),
    Column("failures", SmallInteger, nullable=False, server_default=text("0")),
    Column("enrolled", Boolean),
    Column("validated", Boolean),
    Column("webhooks", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("checked_at", Timestamp),
    Column("validated_at", Timestamp),
    Index("reconciliations_due", "next_at"),
)

reconciled_receipts = Table(
    "reconciled_receipts",
    metadata,
    Column("receipt_id", Uuid, primary_key=True),
    Column("source_id", BigInteger, nullable=False),
    Column("reference", Text, nullable=False),
    Column("reconciled_at", Timestamp, nullable=False),
)

resend_records = Table(
    "resend_records",
    metadata,
    Column("source_id", BigInteger, nullable=False),
    Column("reference", Text, nullable=False),
    Column("resent", Text, nullable=False),
    Column("made_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("source_id", "reference"),
    Index("resend_records_by_age", "made_at"),
)

"""The tables of alerts. Migrations create them; a test proves that both agree."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.postgres.metadata import Timestamp, metadata

alerts = Table(
    "alerts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("source_id", BigInteger),
    Column("tenant", Text),
    Column("summary", Text, nullable=False),
    Column("numbers", JSONB, nullable=False),
    Column("evidence_event_id", Uuid),
    Column("started_at", Timestamp, nullable=False),
    Column("judged_at", Timestamp, nullable=False),
    Column("calm_since", Timestamp),
    Column("resolved_at", Timestamp),
    Column("acknowledged_at", Timestamp),
    Column("acknowledged_by", Text),
    Column("muted_until", Timestamp),
    Column("muted_by", Text),
    Column("reminded_at", Timestamp),
    CheckConstraint("state IN ('firing', 'resolved')", name="alerts_state_check"),
    Index("alerts_firing", "rule", "subject", postgresql_where=text("state = 'firing'"), unique=True),
    Index("alerts_firing_by_time", "id", postgresql_where=text("state = 'firing'")),
    Index("alerts_of_subject", "rule", "subject", "id"),
)

alert_steps = Table(
    "alert_steps",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("alert_id", Uuid, nullable=False),
    Column("at", Timestamp, nullable=False),
    Column("step", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("numbers", JSONB, nullable=False),
    Column("actor", Text),
    Index("alert_steps_of_alert", "alert_id", "id"),
)

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("definition", JSONB, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    Column("created_by", Text, nullable=False),
)

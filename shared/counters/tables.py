"""The tables of counters. Migrations create them; a test proves that both agree."""

from sqlalchemy import BigInteger, Column, Double, Integer, PrimaryKeyConstraint, SmallInteger, Table, Text, Uuid

from shared.postgres.metadata import Timestamp, metadata

minute_counts = Table(
    "minute_counts",
    metadata,
    Column("dimension", Text, nullable=False),
    Column("minute", Timestamp, nullable=False),
    Column("source_id", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("shard", SmallInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("last_event_id", Uuid, nullable=False),
    PrimaryKeyConstraint("dimension", "minute", "source_id", "value", "type", "shard"),
    postgresql_with={"fillfactor": 60, "autovacuum_vacuum_scale_factor": 0.05},
)

# Totals since the installation exists, by time series. Processes write to different shards, as far as their number
# allows, so that they do not wait for each other.
metric_totals = Table(
    "metric_totals",
    metadata,
    Column("metric", Text, nullable=False),
    Column("source_id", BigInteger, nullable=False, doc="0: not about one source"),
    Column("label", Text, nullable=False, doc="an event type, a result, a bucket of a histogram, or a role"),
    Column("shard", SmallInteger, nullable=False),
    Column("total", Double, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("metric", "source_id", "label", "shard"),
    postgresql_with={"fillfactor": 50},
)

"""The tables of jobs. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.postgres.metadata import Timestamp, metadata

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("parameters", JSONB, nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("total", BigInteger),
    Column("position", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("report", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("error", Text),
    Column("asked_by", Text, nullable=False),
    Column("cancel_asked", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", Timestamp, nullable=False),
    Column("started_at", Timestamp),
    Column("finished_at", Timestamp),
    Column("available_at", Timestamp, nullable=False),
    Column("lease_token", Uuid),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("tenant", Text),
    CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="jobs_state_check"),
    Index("jobs_of_tenant", "tenant", "id", postgresql_where=text("tenant IS NOT NULL")),
    Index("jobs_open", "available_at", "id", postgresql_where=text("state IN ('queued', 'running')")),
    postgresql_with={"fillfactor": 70},
)

job_files = Table(
    "job_files",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("job_id", "name", "part"),
)

periodic_tasks = Table(
    "periodic_tasks",
    metadata,
    Column("task", Text, primary_key=True),
    Column("ran_at", Timestamp, nullable=False),
    Column("wake_up_at", Timestamp, nullable=False),
    Column("problem", Text),
    postgresql_with={"fillfactor": 50},
)

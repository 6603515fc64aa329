"""The tables of rules. Migrations create them; a test proves that both agree."""

from sqlalchemy import Boolean, CheckConstraint, Column, Table, Text, text

from shared.postgres.metadata import Timestamp, metadata

rules_in_force = Table(
    "rules_in_force",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("path", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("accepted_at", Timestamp, nullable=False),
    CheckConstraint("single", name="rules_in_force_single_check"),
)

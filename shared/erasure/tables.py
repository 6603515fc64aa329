"""The tables of erasure. Migrations create them; a test proves that both agree."""

from sqlalchemy import Column, Table, Uuid

from shared.postgres.metadata import Timestamp, metadata

erased_receipts = Table(
    "erased_receipts",
    metadata,
    Column("receipt_id", Uuid, primary_key=True),
    Column("erased_at", Timestamp, nullable=False),
)

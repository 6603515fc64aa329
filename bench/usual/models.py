"""The tables of Tidings that the usual way writes, as ORM classes."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, DateTime, Identity, SmallInteger, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import UserDefinedType


class TransactionId(UserDefinedType[str]):
    """PostgreSQL's own number of a transaction, as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the name of the type."""
        return "xid8"


class Base(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map = {  # noqa: RUF012 - the ORM's own protocol
        str: Text,
        datetime: DateTime(timezone=True),
        Any: JSON,
    }


class SourceRecord(Base):
    """A source of webhooks."""

    __tablename__ = "sources"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    slug: Mapped[str]
    provider: Mapped[str]
    credentials: Mapped[bytes]
    settings: Mapped[Any]
    fetched_keys: Mapped[Any]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class ReceiptRecord(Base):
    """A request as it arrived."""

    __tablename__ = "receipts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime]
    idempotency_key: Mapped[str | None]
    remote_ip: Mapped[str | None]
    headers: Mapped[Any]
    body: Mapped[bytes]


class EventKeyRecord(Base):
    """The identity of an event."""

    __tablename__ = "event_keys"

    key: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]


class EventRecord(Base):
    """One normalized event."""

    __tablename__ = "events"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    receipt_id: Mapped[UUID]
    source_id: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[UUID]
    type: Mapped[str]
    message_id: Mapped[UUID | None]
    recipient: Mapped[str | None]
    occurred_at: Mapped[datetime]
    received_at: Mapped[datetime]
    classification: Mapped[str | None]
    smtp_status: Mapped[str | None]
    enhanced_code: Mapped[str | None]
    reason: Mapped[str | None]
    data: Mapped[Any]
    provider_object: Mapped[Any]


class MessageRecord(Base):
    """One message, with all that its events know of it."""

    __tablename__ = "messages"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    first_event_at: Mapped[datetime]
    provider_message_id: Mapped[str | None]
    request_id: Mapped[str | None]
    smtp_id: Mapped[str | None]
    sender: Mapped[str | None]
    subject: Mapped[str | None]
    tenant: Mapped[str | None]
    tag: Mapped[str | None]
    campaign: Mapped[str | None]


class StateRecord(Base):
    """The state of a message for one recipient."""

    __tablename__ = "recipient_states"

    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    recipient: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(BigInteger)
    smtp_id: Mapped[str | None]
    weight: Mapped[int] = mapped_column(SmallInteger)
    status_at: Mapped[datetime]
    rank: Mapped[int] = mapped_column(SmallInteger)
    status_key: Mapped[UUID]
    status: Mapped[str | None]
    previous_status: Mapped[str | None]
    status_event_id: Mapped[UUID | None]
    classification: Mapped[str | None]
    smtp_status: Mapped[str | None]
    enhanced_code: Mapped[str | None]
    reason: Mapped[str | None]
    opens: Mapped[int]
    clicks: Mapped[int]
    reads: Mapped[int]
    opened_at: Mapped[datetime | None]
    clicked_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    complained_at: Mapped[datetime | None]
    unsubscribed_at: Mapped[datetime | None]
    subscribed_at: Mapped[datetime | None]
    remarks: Mapped[int]
    version: Mapped[int]
    updated_at: Mapped[datetime]


class CountRecord(Base):
    """The number of events of a type, per source and minute."""

    __tablename__ = "minute_counts"

    dimension: Mapped[str] = mapped_column(primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    count: Mapped[int]
    last_event_id: Mapped[UUID]


class ChangeRecord(Base):
    """One entry of the log of changes."""

    __tablename__ = "state_changes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    type: Mapped[str]
    source_id: Mapped[int] = mapped_column(BigInteger)
    message_id: Mapped[UUID | None]
    recipient: Mapped[str | None]
    event_id: Mapped[UUID | None]
    status: Mapped[str | None]
    previous_status: Mapped[str | None]
    version: Mapped[int | None]


class DeliveryRecord(Base):
    """The delivery of a change to a subscription."""

    __tablename__ = "deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID]
    change_transaction: Mapped[str] = mapped_column(TransactionId)
    change_id: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str]
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    created_at: Mapped[datetime]


class AttemptRecord(Base):
    """An attempt to make one."""

    __tablename__ = "delivery_attempts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    delivery_id: Mapped[UUID]
    subscription_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(SmallInteger)
    created_at: Mapped[datetime]
    status: Mapped[str]
    http_status: Mapped[int] = mapped_column(SmallInteger)
    latency_ms: Mapped[int]
    request_capture: Mapped[Any]
    response_capture: Mapped[Any]

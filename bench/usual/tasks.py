"""The usual tasks: one for each event, a transaction each. What Celery runs is `-A bench.usual.tasks:celery`."""

from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.orm import Session

from bench.usual import work
from bench.usual.models import ReceiptRecord
from bench.usual.settings import celery, engine, source_by_id
from shared.messages.store import NewEvent
from shared.receipts import normalize


@celery.task(name="usual.receipt")  # type: ignore[untyped-decorator]
def process_receipt(receipt_id: str) -> None:
    """Process the only event of a body at once; of a body with many, send a task for each."""
    with Session(engine()) as session, session.begin():
        receipt = session.get_one(ReceiptRecord, UUID(receipt_id))
        source = source_by_id(receipt.source_id)
        if source is None:
            return
        parsed = normalize.parse_events(source, receipt.id, receipt.received_at, receipt.body)
        events = [work.include_object(event, receipt.body) for event in parsed]
        if len(events) == 1:
            work.apply(session, events[0])
            return
    with celery.producer_or_acquire() as producer:
        for event in events:
            process_event.apply_async(args=[msgspec.to_builtins(event)], producer=producer)


@celery.task(name="usual.event")  # type: ignore[untyped-decorator]
def process_event(event: list[Any]) -> None:
    """Process one event of a body that has many."""
    with Session(engine()) as session, session.begin():
        work.apply(session, msgspec.convert(event, NewEvent))

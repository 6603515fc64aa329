"""Find the receipt that a resent delivery became, so that its new events can be counted.

The provider got a 2xx, so it arrived. None means that no receipt is new: it was a duplicate of one that we had.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared import ids, json_text
from shared.errors import PayloadError
from shared.providers.api.base import Contents, ProviderApi, ResendResult, Span
from shared.providers.api.fields import UNREADABLE
from shared.receipts import normalize
from shared.reconciliation import failed_deliveries
from shared.reconciliation.failed_deliveries import KnownFailure
from shared.reconciliation.policy import most_similar
from shared.sources.source import Source

_CLOCKS_DIFFER = timedelta(seconds=2)
_MAX_ATTEMPT = timedelta(minutes=1)


def find_existing(
    connection: Connection, source: Source, failure: KnownFailure, sent: bytes
) -> tuple[bool, UUID | None]:
    """Return whether all events of a body have been processed: then the provider only missed our answer.

    The id is that of the receipt, if an earlier attempt of ours made it. An event without an identity is never
    recognized.
    """
    now = datetime.now(UTC)
    try:
        events = normalize.parse_events(source, ids.receipt_id(now), now, sent)
    except PayloadError:
        return False, None
    keys = {event.key: event.key_minute for event in events}
    found = failed_deliveries.receipts_by_event_keys(connection, keys) if keys else None
    if found is None:
        return False, None
    earlier_at = failure.last_attempt_at
    asked_for = (one for one in found if earlier_at is not None and ids.made_at(one) >= earlier_at)
    return True, next(asked_for, None)


def find_receipt(
    connection: Connection,
    source: Source,
    client: ProviderApi,
    failure: KnownFailure,
    resent: ResendResult,
    *,
    began_at: datetime,
    transaction: str,
) -> UUID | None:
    """Return the receipt of an attempt that has just ended, and that `transaction` recorded; None if it made none.

    An earlier attempt may have made it, if its answer was lost or its run was killed.
    """
    earlier_at = failure.last_attempt_at
    if resent.receipt_id is not None:
        is_new = failed_deliveries.is_written_later(connection, source.id, resent.receipt_id, transaction)
        if is_new is not None:
            is_new = is_new or (earlier_at is not None and ids.made_at(resent.receipt_id) >= earlier_at)
            return resent.receipt_id if is_new else None
    # Compare what was sent if the provider shows it, else the number of events and their times.
    sent = None if resent.payload is None else _json(resent.payload)

    def choose(arrived: Iterable[tuple[UUID, bytes]]) -> UUID | None:
        if sent is not None:
            return next((receipt_id for receipt_id, body in arrived if _json(body) == sent), None)
        unreadable = Contents(events=-1, latest_at=None)
        return most_similar(
            failure, ((receipt_id, client.contents(body) or unreadable) for receipt_id, body in arrived)
        )

    around = Span(since=began_at - _CLOCKS_DIFFER, until=datetime.now(UTC) + _CLOCKS_DIFFER)
    found = choose(failed_deliveries.list_arrivals(connection, source.id, around, transaction))
    if found is None and earlier_at is not None:
        earlier = Span(since=earlier_at, until=min(earlier_at + _MAX_ATTEMPT, began_at))
        found = choose(failed_deliveries.list_arrivals(connection, source.id, earlier))
    return found


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(json_text.clean(body))
    except UNREADABLE:
        return None

"""Which receipt came when a delivery was sent again: so that it can be marked, and its new events counted.

That it came is known from the provider, which was answered with 2xx; this is only about which one it is. None means
that none is new: it was a repetition of one that we had all the time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared import ids
from shared.errors import PayloadError
from shared.providers.api.base import Contents, ProviderApi, ResendResult, Span
from shared.providers.api.fields import UNREADABLE
from shared.receipts import normalize
from shared.reconciliation import failed_deliveries
from shared.reconciliation.failed_deliveries import KnownFailure
from shared.reconciliation.policy import most_alike
from shared.sources.source import Source

_CLOCKS_DIFFER = timedelta(seconds=2)
_LONGEST_ATTEMPT = timedelta(minutes=1)

Arrived = Iterable[tuple[UUID, bytes]]
Choice = Callable[[Arrived], UUID | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """When a delivery was begun to be sent again, and by which transaction that was written down."""

    began_at: datetime
    transaction: str


@dataclass(frozen=True, slots=True)
class Here:
    """A delivery that need not be sent again; `receipt_id` is what an earlier attempt of ours made, where one did."""

    receipt_id: UUID | None


def look_up(connection: Connection, source: Source, failure: KnownFailure, sent: bytes) -> Here | None:
    """Whether all that is in a body has been processed already: then the provider only missed our answer.

    An event without any identity of its own is never known.
    """
    now = datetime.now(UTC)
    try:
        events = normalize.rows(source, ids.receipt_id(now), now, sent)
    except PayloadError:
        return None
    found = failed_deliveries.receipts_of(connection, {event.key for event in events}) if events else None
    if found is None:
        return None
    earlier_at = failure.last_attempt_at
    asked_for = (one for one in found if earlier_at is not None and ids.made_at(one) >= earlier_at)
    return Here(next(asked_for, None))


def find(
    connection: Connection,
    source: Source,
    client: ProviderApi,
    failure: KnownFailure,
    resent: ResendResult,
    attempt: Attempt,
) -> UUID | None:
    """The receipt that an attempt made, which has just ended.

    An earlier attempt may have made it, and its answer, or whoever waited for it, been lost.
    """
    began_at, earlier_at = attempt.began_at, failure.last_attempt_at
    if resent.receipt_id is not None:
        is_new = failed_deliveries.came_after(connection, source.id, resent.receipt_id, attempt.transaction)
        if is_new is not None:
            is_new = is_new or (earlier_at is not None and ids.made_at(resent.receipt_id) >= earlier_at)
            return resent.receipt_id if is_new else None
    choose = _choice(client, failure, resent)
    around = Span(since=began_at - _CLOCKS_DIFFER, until=datetime.now(UTC) + _CLOCKS_DIFFER)
    found = choose(failed_deliveries.arrivals(connection, source.id, around, attempt.transaction))
    if found is None and earlier_at is not None:
        earlier = Span(since=earlier_at, until=min(earlier_at + _LONGEST_ATTEMPT, began_at))
        found = choose(failed_deliveries.arrivals(connection, source.id, earlier))
    return found


def _choice(client: ProviderApi, failure: KnownFailure, resent: ResendResult) -> Choice:
    """By what was sent, where the provider shows it; by how much and from when, where it tells only that."""

    def with_same_json(arrived: Arrived) -> UUID | None:
        return next((receipt_id for receipt_id, body in arrived if _json(body) == sent), None)

    def with_likely_contents(arrived: Arrived) -> UUID | None:
        return most_alike(failure, ((receipt_id, _contents(client, body)) for receipt_id, body in arrived))

    sent = None if resent.payload is None else _json(resent.payload)
    return with_likely_contents if sent is None else with_same_json


def _contents(client: ProviderApi, body: bytes) -> Contents:
    return client.contents(body) or Contents(events=-1, latest_at=None)


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        return None

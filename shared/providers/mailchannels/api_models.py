"""The JSON of MailChannels' API, and its translation. Unreadable JSON raises ValueError.

Batches have the status `5xx_response` where the filter has `5xx`. Empty lists may be null.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from shared.providers.api.base import (
    Contents,
    FailedDelivery,
    ListedSuppression,
    NewSuppression,
    ResendResult,
    Validation,
    Webhook,
)
from shared.providers.api.client import quote
from shared.providers.api.fields import (
    UNREADABLE,
    Count,
    StatusCode,
    Text,
    from_seconds,
    read_instant,
    read_instant_if_any,
)
from shared.vocabulary import ALL_MAIL, MailType, SuppressionReason

TAKEN: Final = "2xx"
FAILED: Final = ("1xx", "3xx", "4xx", "5xx", "no_response")
SUFFIX: Final = "_response"

_LONGEST_NOTE: Final = 1024
_WORDS: Mapping[MailType, str] = {
    MailType.TRANSACTIONAL: "transactional",
    MailType.NON_TRANSACTIONAL: "non-transactional",
}
_TYPES: Mapping[str, MailType] = {word: mail_type for mail_type, word in _WORDS.items()}
_REASONS: Mapping[str, SuppressionReason] = {
    "hard_bounce": SuppressionReason.HARD_BOUNCE,
    "spam_complaint": SuppressionReason.COMPLAINT,
    "unsubscribe_link": SuppressionReason.UNSUBSCRIBE,
    "list_unsubscribe": SuppressionReason.UNSUBSCRIBE,
    "api": SuppressionReason.MANUAL,
}


class _Batch(msgspec.Struct):
    batch_id: int
    created_at: str
    webhook: Text | None = None
    status: Text | None = None
    status_code: StatusCode | None = None
    event_count: Count = 0


class _Batches(msgspec.Struct):
    webhook_batches: list[_Batch] | None


class _Resent(msgspec.Struct):
    batch_id: int
    status_code: StatusCode | None = None


class _Webhook(msgspec.Struct):
    webhook: Text


class _Response(msgspec.Struct):
    status: int | None = None
    body: str | None = None


class _Result(msgspec.Struct):
    webhook: str
    result: str
    response: _Response | None = None


class _Results(msgspec.Struct):
    results: list[_Result] | None


class _Entry(msgspec.Struct):
    recipient: Text
    source: str | None = None
    suppression_types: list[str] | None = None
    notes: Text | None = None
    created_at: str | None = None
    sender: str | None = None


class _Entries(msgspec.Struct):
    suppression_list: list[_Entry] | None


_batches = msgspec.json.Decoder(_Batches).decode
_resent = msgspec.json.Decoder(_Resent).decode
_webhooks = msgspec.json.Decoder(list[_Webhook] | None).decode
_results = msgspec.json.Decoder(_Results).decode
_entries = msgspec.json.Decoder(_Entries).decode
_events = msgspec.json.Decoder(list[dict[str, Any]]).decode


def read_batches(body: bytes) -> list[FailedDelivery]:
    """Parse batches, including those that were accepted."""
    found = []
    for batch in _batches(body).webhook_batches or ():
        if batch.status is None:
            outcome = "no_response" if batch.status_code is None else f"{batch.status_code // 100}xx"
        else:
            outcome = batch.status if batch.status in FAILED else batch.status.removesuffix(SUFFIX)
        delivery = FailedDelivery(
            reference=str(batch.batch_id),
            failed_at=read_instant(batch.created_at),
            outcome=outcome,
            status_code=batch.status_code,
            events=batch.event_count,
            url=batch.webhook,
        )
        found.append(delivery)
    return found


def read_resent(body: bytes) -> ResendResult:
    """Parse the result of a resend."""
    done = _resent(body)
    return ResendResult(status_code=done.status_code, record=str(done.batch_id))


def read_webhooks(body: bytes) -> list[Webhook]:
    """Parse the enrolled webhooks; the URL is also the id."""
    return [Webhook(id=one.webhook, url=one.webhook) for one in _webhooks(body) or ()]


def read_validations(body: bytes) -> list[Validation]:
    """Parse the results for all webhooks of the account."""
    found = []
    for result in _results(body).results or ():
        detail = "no answer"
        if result.response is not None:
            detail = f"answered {result.response.status}: {quote((result.response.body or '').encode())}"
        found.append(Validation(url=result.webhook, passed=result.result == "passed", detail=detail))
    return found


def read_suppressions(body: bytes) -> list[ListedSuppression]:
    """Parse entries of the suppression list; a recipient may be on it for several reasons.

    `sender` is set if an entry applies to mail of one sender only.
    """
    return [
        ListedSuppression(
            address=entry.recipient,
            types=frozenset(_TYPES[word] for word in entry.suppression_types or () if word in _TYPES) or ALL_MAIL,
            reason=_REASONS.get(entry.source or "", SuppressionReason.MANUAL),
            word=entry.source or "",
            note=entry.notes,
            created_at=read_instant_if_any(entry.created_at),
            sender=entry.sender,
        )
        for entry in _entries(body).suppression_list or ()
    ]


def suppression(entry: NewSuppression) -> dict[str, object]:
    """Return the JSON of an entry to add."""
    return {
        "recipient": entry.address,
        "suppression_types": sorted(_WORDS[one] for one in entry.types),
        "notes": entry.note[:_LONGEST_NOTE],
    }


def read_contents(body: bytes) -> Contents | None:
    """Return the number and time of the events in a batch, an array of events with times in Unix seconds.

    Return None if the body is not a batch, or if it contains test events only.
    """
    try:
        events = _events(body)
    except UNREADABLE:
        return None
    if all(event.get("event") == "test" for event in events):
        return None
    times = [moment for event in events if (moment := from_seconds(event.get("timestamp")))]
    return Contents(events=len(events), latest_at=max(times, default=None))

"""Azure Communication Services Email: delivery and engagement reports by Event Grid, behind a secret.

Sources: learn.microsoft.com "Azure Communication Services Email events" and "Event Grid message delivery and retry".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.errors import PayloadError
from shared.providers.webhooks import event_table, payload, schemes
from shared.providers.webhooks.base import Provider, StatusCodes, WebhookRequest
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "Delivered": EventType.DELIVERED,
    "Bounced": EventType.BOUNCED,
    "Failed": EventType.FAILED,
    "Suppressed": EventType.REJECTED,
    "Quarantined": EventType.REJECTED,
    "FilteredSpam": EventType.REJECTED,
    "view": EventType.OPENED,
    "click": EventType.CLICKED,
}
_VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
_ENGAGEMENT = "Microsoft.Communication.EmailEngagementTrackingReportReceived"


def _kind(item: Mapping[str, Any]) -> Any:
    """Return the status of a delivery report, or what an engagement report is about."""
    data = item.get("data")
    kind = item.get("eventType") or item.get("type")  # in the schema of CloudEvents
    if not isinstance(data, dict):
        return kind
    if kind == _ENGAGEMENT:
        return data.get("engagementType")
    return data.get("status") or kind


_TABLE = EventTable(
    provider="azure",
    types=EVENTS,
    fields=paths(
        type=_kind,
        event_id="id",
        recipient="data.recipient",  # an engagement report has none: it holds for all recipients
        # The events' page and the SDK spell the first two differently.
        occurred_at=(
            *("data.deliveryAttemptTimeStamp", "data.deliveryAttemptTimestamp"),
            *("data.userActionTimeStamp", "data.userActionTimestamp"),
            *("eventTime", "time"),
        ),
        provider_message_id="data.messageId",
        smtp_id="data.internetMessageId",
        reason=("data.deliveryStatusDetails.statusMessage", "data.deliveryStatusDetails"),
        remote_host="data.deliveryStatusDetails.recipientMailServerHostName",
        url="data.engagementContext",
        user_agent="data.userAgent",
        sender="data.sender",
    ),
    details=paths(topic=("topic", "source"), subject="subject", event_type=("eventType", "type")),
)


_SCHEME = schemes.QuerySecret()


def _probe(request: WebhookRequest, credentials: Sequence[bytes], /) -> bytes | None:
    """Return the answer to Event Grid's validation of the URL, which echoes its code. Raises VerificationError."""
    if request.headers.get("aeg-event-type", "").strip().lower() != "subscriptionvalidation":
        return None
    _SCHEME.check(request, credentials)
    try:
        value = payload.decode_any(payload.read(request.body).clean)
    except PayloadError:
        return None
    event = value[0] if isinstance(value, list) and value else value
    if not isinstance(event, dict) or event.get("eventType") != _VALIDATION or not isinstance(event.get("data"), dict):
        return None
    code = event["data"].get("validationCode")
    return msgspec.json.encode({"validationResponse": code}) if isinstance(code, str) else None


PROVIDER = Provider(
    name="azure",
    credential_fields=(schemes.QUERY_SECRET,),
    setup=(
        "In the Azure portal, open the Communication Services resource, Events, and add an event subscription with the "
        "Event Grid schema, both email reports, and the web hook https://<your host>{path}?secret=<secret>."
    ),
    no_api="Tidings does not call Azure's API: create the event subscription in the portal.",
    signs="nothing: a secret in the query, or a bearer token",
    retries="for 24 hours; never after 400, 401, 403 and 413",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.parser(_TABLE),
    probe=_probe,
    # Event Grid drops an event for good after 400, 401, 403 and 413. After another code it tries again for a day, so
    # that a secret that was changed on one side only loses nothing.
    status_codes=StatusCodes(bad_signature=429, encoded=200),
)

"""Elastic Email: one notification for each request, as the query of a GET or as JSON, behind a secret in the URL.

Sources: help.elasticemail.com "Notification settings" and "What are the bounce error categories and filters". A
notification can be signed, but what the signature covers is not documented: see docs/decisions/0068.
"""

import re
from typing import Any

from shared.providers.webhooks import event_table, forms, schemes
from shared.providers.webhooks.base import Provider
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "Sent": EventType.DELIVERED,  # called Success before: the recipient's server took the message
    "Success": EventType.DELIVERED,
    "Opened": EventType.OPENED,
    "Clicked": EventType.CLICKED,
    "Error": EventType.BOUNCED,
    "Bounced": EventType.BOUNCED,
    "AbuseReport": EventType.COMPLAINED,
    "Unsubscribed": EventType.UNSUBSCRIBED,
}
_NOT_TRIED = ("ignore", "suppressed", "manualcancel")
"""Categories of an error that say that Elastic Email did not send the message."""
_AMERICAN = re.compile(r"(\d\d?)/(\d\d?)/(\d{4}) (\d\d?):(\d\d):(\d\d) ?(AM|PM)", re.IGNORECASE)


def _category(item: dict[str, Any]) -> str:
    """Return the category of a failure in lower case; the pages write it with and without spaces."""
    return str(item.get("category") or "").replace(" ", "").lower()


def _kind(item: dict[str, Any]) -> Any:
    status = item.get("status")
    if isinstance(status, str) and EVENTS.get(status) is EventType.BOUNCED and _category(item) in _NOT_TRIED:
        return f"{status} {_category(item)}"
    return status


def _time(item: dict[str, Any]) -> Any:
    """Return the time, in UTC, and rewritten where it is in the American notation."""
    date = item.get("date")
    found = _AMERICAN.fullmatch(date.strip()) if isinstance(date, str) else None
    if found is None:
        return date
    month, day, year, hour, minute, second, half = found.groups()
    hour_of_day = int(hour) % 12 + (12 if half.upper() == "PM" else 0)
    return f"{year}-{int(month):02}-{int(day):02}T{hour_of_day:02}:{minute}:{second}Z"


_TABLE = EventTable(
    provider="elasticemail",
    types={
        **EVENTS,
        **{f"{word} {category}": EventType.REJECTED for word in ("Error", "Bounced") for category in _NOT_TRIED},
    },
    fields=paths(
        type=_kind,
        failure=_category,
        recipient="to",
        occurred_at=_time,
        provider_message_id="messageid",
        request_id="transaction",
        reason=("error", "message", "reason"),
        url="target",
        sender="from",
        subject="subject",
        campaign="channel",
        metadata="postback",
    ),
    details=paths(category="category", account="account"),
)
_SCHEME = schemes.QuerySecret()


PROVIDER = Provider(
    name="elasticemail",
    credential_fields=(schemes.QUERY_SECRET,),
    setup=(
        "In Elastic Email, open Settings, Notifications, add the notification link "
        "https://<your host>{path}?secret=<secret>, and tick every event."
    ),
    no_api="Tidings does not call Elastic Email's API: add the notification link in Elastic Email.",
    signs="nothing that is documented: a secret in the query",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.json_or_form_parser(_TABLE),
    probes_with_query=True,
    body_of_query=lambda query: forms.drop_from_query(query, "secret").encode("latin-1", "replace"),
)

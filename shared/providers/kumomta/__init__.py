"""KumoMTA: log records that a log hook of yours posts, one or several in a request, behind a password.

Source: docs.kumomta.com "Log Record" and "Publishing log events by webhook".
"""

from typing import Any

from shared.events.event import Event
from shared.providers.webhooks import event_table, payload, schemes
from shared.providers.webhooks.base import Provider
from shared.providers.webhooks.event_table import EventTable, path, paths
from shared.vocabulary import EventType

EVENTS = {
    "Reception": EventType.QUEUED,
    "Delivery": EventType.DELIVERED,
    "TransientFailure": EventType.DEFERRED,
    "Delayed": EventType.DEFERRED,
    "Bounce": EventType.BOUNCED,
    "OOB": EventType.BOUNCED,  # after delivery
    "Expiration": EventType.FAILED,
    "AdminBounce": EventType.FAILED,
    "Rejection": EventType.REJECTED,
    "Feedback": EventType.COMPLAINED,
}

_ENHANCED = path("response.enhanced_code")


def _enhanced_code(item: Any) -> Any:
    """Return the code as text: KumoMTA writes it as an object of three numbers."""
    code = _ENHANCED(item)
    if isinstance(code, dict):
        return ".".join(str(code.get(part)) for part in ("class", "subject", "detail"))
    return code


_TABLE = EventTable(
    provider="kumomta",
    types=EVENTS,
    fields=paths(
        type="type",
        failure="bounce_classification",
        recipient=("feedback_report.original_rcpt_to", "recipient"),  # a complaint has the address of the loop there
        occurred_at=("event_time", "timestamp"),
        provider_message_id="id",
        smtp_id=("headers.Message-ID", "headers.Message-Id"),
        smtp_status="response.code",
        enhanced_code=_enhanced_code,
        reason=("response.content", "feedback_report.feedback_type"),
        remote_host="peer_address.name",
        sender="sender",
        subject="headers.Subject",
        tags="meta.tags",
        campaign="meta.campaign",
        metadata="meta",
    ),
    details=paths(
        queue="queue",
        site="site",
        num_attempts="num_attempts",
        egress_pool="egress_pool",
        egress_source="egress_source",
        bounce_classification="bounce_classification",
        peer_address="peer_address.addr",
        tenant="tenant",
    ),
)
_SCHEME = schemes.Password(accepts_token=True)


def _parse(body: bytes, _credentials: Any, /) -> list[Event]:
    """Return the events of one record, of a list, or of one record for each line."""
    whole = payload.read(body)
    items = event_table.read_lines(whole)
    if len(items) == 1:
        items = event_table.read_items(items[0])
    return event_table.parse(items, _TABLE)


PROVIDER = Provider(
    name="kumomta",
    credential_fields=schemes.PASSWORD_OR_TOKEN,
    setup=(
        "In KumoMTA's policy, configure a log hook that posts each record as JSON to https://<your host>{path} with "
        "basic authentication; docs/providers.md has one."
    ),
    no_api="KumoMTA keeps records in its spool and repeats them until they are taken.",
    signs="nothing: basic authentication or a bearer token",
    retries="as your policy says",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=_parse,
)

"""A sample of each type of change: what test deliveries send, and the examples of the API's document."""

from typing import Any, Final

from shared.messages.state import STATUS_EFFECTS, WITHOUT_MESSAGE
from shared.vocabulary import CHANGE_TYPES, EventType

AT: Final = "2026-01-31T12:00:00.123456Z"
_EVENT_ID: Final = "019c1411-9400-7000-8000-000000100000"
_MESSAGE_ID: Final = "019c1411-9400-7000-8000-000000000000"
SUBSCRIPTION_ID: Final = "019c1411-9400-7000-8000-000000200000"
_ADDRESS: Final = "ann@example.net"
_TENANT: Final = "acme"
_SENDER: Final = {"sender": "shop@example.com", "subject": "Your order"}
_NAMES: Final = {
    "provider_message_id": None,
    "request_id": "r-1",
    "smtp_id": "1@shop.example",
    "tag": "orders",
    "campaign": None,
    "tenant": _TENANT,
}
_MESSAGE: Final = {"id": _MESSAGE_ID, "source": "main", **_SENDER, **_NAMES}
_FAILURES: Final = frozenset({EventType.BOUNCED, EventType.FAILED, EventType.DEFERRED})
_ALERT: Final = {
    "id": "019c1411-9400-7000-8000-000000300000",
    "rule": "bounces",
    "kind": "rate",
    "subject": "main",
    "severity": "warning",
    "source": "main",
    "tenant": None,
    "summary": "5.5 % of 200 messages of main bounced within an hour",
    "numbers": {"bounced": 11, "ended": 200, "percent": 5.5},
    "evidence_event_id": None,
    "started_at": AT,
    "judged_at": AT,
    "acknowledged_at": None,
    "acknowledged_by": None,
    "muted_until": None,
    "muted_by": None,
}
_SUPPRESSION: Final = {
    "address": _ADDRESS,
    "domain": None,
    "tenant": None,
    "reason": "hard_bounce",
    "types": ["transactional", "non_transactional"],
    "classification": "invalid_recipient",
    "origin": "event",
    "source": "main",
    "since": AT,
    "created_at": AT,
    "expires_at": None,
    "evidence_event_id": _EVENT_ID,
    "level": 0,
    "actor": None,
    "note": None,
}
_EVENTS: Final = {name: kind for kind, name in CHANGE_TYPES.items()}


def make_data(type_: str) -> dict[str, Any]:
    """Return the content of a change of this type. All of it is invented; addresses are of example domains."""
    kind = _EVENTS.get(type_)
    data: dict[str, Any] = dict.fromkeys(
        ("message", "recipient", "status", "previous_status", "version", "event", "suppression", "alert")
    )
    data["source"] = "main"
    if type_.startswith("suppression."):
        data |= {"recipient": _ADDRESS, "suppression": _SUPPRESSION}
    elif type_.startswith("alert."):
        is_over = type_ == "alert.resolved"
        data["alert"] = {
            **_ALERT,
            "state": "resolved" if is_over else "firing",
            "resolved_at": AT if is_over else None,
        }
    elif kind is not None:
        has_message = kind not in WITHOUT_MESSAGE
        _, status = STATUS_EFFECTS[kind]
        if has_message:
            state = {"status": status, "previous_status": "queued" if status else None, "version": 2}
            data |= {"message": _MESSAGE, "recipient": _ADDRESS, **state}
        data["event"] = _make_event(kind, has_message=has_message)
        if kind is EventType.INBOUND:
            data["body_text"] = {"text": "Where is my order?", "truncated": False, "original_bytes": 18}
    return data


def _make_event(kind: EventType, *, has_message: bool) -> dict[str, Any]:
    failed = kind in _FAILURES
    return {
        "id": _EVENT_ID,
        "receipt_id": _MESSAGE_ID,
        "source": "main",
        "type": kind,
        "message_id": _MESSAGE_ID if has_message else None,
        "recipient": _ADDRESS if has_message else None,
        "occurred_at": AT,
        "received_at": AT,
        "classification": "invalid_recipient" if failed else None,
        "classification_code": 10 if failed else None,
        "smtp_status": "550" if failed else None,
        "enhanced_code": "5.1.1" if failed else None,
        "reason": "no such user" if failed else None,
        **(_SENDER if has_message else dict.fromkeys(_SENDER)),
        **(_NAMES if has_message else dict.fromkeys(_NAMES)),
        "remote_host": "mx.example.net" if failed else None,
        "url": "https://shop.example/order" if kind is EventType.CLICKED else None,
        "ip": None,
        "user_agent": None,
        "automated": None,
        "metadata": None,
        "details": None,
        "problem": "unknown kind of event" if kind is EventType.UNKNOWN else None,
        "reconciled": False,
    }

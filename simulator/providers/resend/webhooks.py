"""Resend's events, one a request, signed through Svix.

Written from resend.com/docs/webhooks.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.vocabulary import Classification, EventType
from simulator.mail import Happening
from simulator.providers.base import Traits, unsupported
from simulator.providers.svix import FORGERIES, RETRY, StandardWebhooks

_TYPES: Mapping[EventType, str] = {
    EventType.QUEUED: "email.scheduled",
    EventType.SENT: "email.sent",
    EventType.DELIVERED: "email.delivered",
    EventType.DEFERRED: "email.delivery_delayed",
    EventType.BOUNCED: "email.bounced",
    EventType.REJECTED: "email.suppressed",
    EventType.FAILED: "email.failed",
    EventType.COMPLAINED: "email.complained",
    EventType.OPENED: "email.opened",
    EventType.CLICKED: "email.clicked",
}


class Resend(StandardWebhooks):
    """Resend with one webhook."""

    NAME = "resend"
    PREFIX = "svix-"
    TRAITS = Traits(
        speaks=frozenset(_TYPES),
        events_per_body=1,
        one_recipient=True,
        nameless=False,
        timed=True,
        explains=False,
        publishes_keys=False,
        rotates=True,
        forgeries=FORGERIES,
        retry=RETRY,
    )

    def credentials(self) -> dict[str, Any]:
        """Return all secrets, and the key to the API."""
        return {**super().credentials(), "api_key": self.api_key}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return one event."""
        if len(happenings) != 1 or happenings[0].kind not in _TYPES or len(happenings[0].recipients) != 1:
            raise unsupported(self.NAME, ", ".join(happening.kind for happening in happenings))
        return json.dumps(_event(happenings[0]), ensure_ascii=False, separators=(",", ":")).encode()


def _event(happening: Happening) -> dict[str, Any]:
    message = happening.subject_message
    data: dict[str, Any] = {
        "email_id": message.uuid,
        "message_id": f"<{message.smtp_id}>",
        "created_at": _time(message.submitted_at),
        "from": f"Shop <{message.sender}>",
        "to": list(happening.recipients),
        "subject": message.subject,
    }
    if message.tag:
        data["tags"] = {"category": message.tag}
    reply = happening.reply
    match happening.kind:
        case EventType.BOUNCED:
            is_full = reply is not None and reply.classification is Classification.MAILBOX_FULL
            data["bounce"] = {
                "type": "Transient" if is_full else "Permanent",
                "subType": "MailboxFull" if is_full else "General",
                "message": reply.text if reply else "The recipient's server did not accept the message.",
                "diagnosticCode": [f"smtp; {reply.smtp_status} {reply.enhanced_code} {reply.text}"] if reply else [],
            }
        case EventType.FAILED:
            data["failed"] = {"reason": reply.text if reply else "reached_daily_quota"}
        case EventType.REJECTED:
            data["suppressed"] = {"type": "OnAccountSuppressionList", "message": "The address is suppressed."}
        case EventType.CLICKED:
            data["click"] = {
                "ipAddress": happening.ip,
                "link": happening.url,
                "timestamp": _time(happening.at),
                "userAgent": happening.user_agent,
            }
    return {"type": _TYPES[happening.kind], "created_at": _time(happening.at), "data": data}


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"

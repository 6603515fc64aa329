"""A sender without a name that follows the suggestions of Standard Webhooks: `{type, timestamp, data}`.

Written from the specification of github.com/standard-webhooks.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening
from simulator.providers.base import Traits, unsupported
from simulator.providers.svix import FORGERIES, RETRY, StandardWebhooks

_TYPES: Mapping[EventType, str] = {
    EventType.SENT: "email.sent",
    EventType.DELIVERED: "email.delivered",
    EventType.DEFERRED: "email.softBounced",
    EventType.BOUNCED: "email.hardBounced",
    EventType.COMPLAINED: "email.spamReported",
    EventType.UNSUBSCRIBED: "email.unsubscribed",
    EventType.OPENED: "email.opened",
    EventType.CLICKED: "email.clicked",
    EventType.REJECTED: "email.rejected",
    EventType.FAILED: "email.failed",
}


class Generic(StandardWebhooks):
    """A sender with one endpoint."""

    NAME = "standardwebhooks"
    TRAITS = Traits(
        speaks=frozenset(_TYPES),
        events_per_body=1,
        one_recipient=False,
        nameless=False,
        timed=True,
        explains=True,
        publishes_keys=False,
        rotates=True,
        forgeries=FORGERIES,
        retry=RETRY,
    )

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return one event."""
        if len(happenings) != 1 or happenings[0].kind not in _TYPES or not happenings[0].recipients:
            raise unsupported(self.NAME, ", ".join(happening.kind for happening in happenings))
        return json.dumps(_event(happenings[0]), ensure_ascii=False, separators=(",", ":")).encode()


def _event(happening: Happening) -> dict[str, Any]:
    message = happening.subject_message
    data: dict[str, Any] = {
        "message_id": message.uuid,
        "from": message.sender,
        "to": list(happening.recipients),
        "subject": message.subject,
    }
    if happening.reply:
        data["response"] = happening.reply.text
        data["smtp_code"] = int(happening.reply.smtp_status)
        data["enhanced_status_code"] = happening.reply.enhanced_code
    if happening.url:
        data |= {"url": happening.url, "ip": happening.ip, "user_agent": happening.user_agent}
    return {"type": _TYPES[happening.kind], "timestamp": happening.at.isoformat(), "data": data}

"""Scaleway Transactional Email's events, in the notifications of its Topics and Events.

Written from Scaleway's page on the payloads of webhook events.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared.vocabulary import Classification, EventType
from simulator.mail import Happening
from simulator.providers.base import unsupported
from simulator.providers.ses.webhooks import Ses

_TYPES: Mapping[EventType, str] = {
    EventType.QUEUED: "email_queued",
    EventType.DELIVERED: "email_delivered",
    EventType.DEFERRED: "email_deferred",
    EventType.BOUNCED: "email_dropped",
    EventType.REJECTED: "email_blocklisted",
}


class Scaleway(Ses):
    """A domain of Transactional Email, whose webhook publishes to a topic."""

    NAME = "scaleway"
    ARN = "arn:scw:sns:fr-par:project-0b9f3a4e-3d3c-4c5f-8d55-6c1f6f0e5d4a:mail"
    HOST = "https://sns.mnq.fr-par.scaleway.com"
    CERTIFICATES = "https://messaging.s3.fr-par.scw.cloud/fr-par/sns/signing-"
    SUBJECT = "Transactional Email webhook"
    TRAITS = replace(Ses.TRAITS, speaks=frozenset(_TYPES))

    def credentials(self) -> dict[str, Any]:
        """Return the topic."""
        return {"topic_arns": [self.ARN]}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return the event that is the message of a notification."""
        if len(happenings) != 1 or happenings[0].kind not in _TYPES or len(happenings[0].recipients) != 1:
            raise unsupported(self.NAME, ", ".join(happening.kind for happening in happenings))
        happening, message = happenings[0], happenings[0].subject_message
        recipient, reply = happening.recipients[0], happening.reply
        word = _TYPES[happening.kind]
        if reply and happening.kind is EventType.BOUNCED and reply.classification is Classification.INVALID_RECIPIENT:
            word = "email_mailbox_not_found"
        at = f"{happening.at:%Y-%m-%dT%H:%M:%S}Z"
        digest = hashlib.sha256(f"{message.uuid}/{word}/{recipient}/{at}".encode()).hexdigest()
        event = {
            "id": str(uuid.UUID(digest[:32])),
            "type": word,
            "organization_id": "0b9f3a4e-3d3c-4c5f-8d55-6c1f6f0e5d4a",
            "project_id": "0b9f3a4e-3d3c-4c5f-8d55-6c1f6f0e5d4a",
            "domain_id": "b1a1b3a2-9a55-4d0f-9f8a-7d6a5f1e2c3b",
            "domain_name": message.sender.rpartition("@")[2],
            "created_at": at,
            "email_id": message.uuid,
            "email_from": message.sender,
            "email_to": recipient,
            "email_headers": [
                {"key": "Subject", "value": message.subject},
                {"key": "Message-ID", "value": f"<{message.smtp_id}>"},
            ],
            "email_queued_at": f"{message.submitted_at:%Y-%m-%dT%H:%M:%S}Z",
            "email_try_count": 1,
            "email_response_code": int(reply.smtp_status) if reply else 250,
            "email_response_message": f"{reply.smtp_status} {reply.enhanced_code} {reply.text}" if reply else "",
        }
        return json.dumps(event, ensure_ascii=False).encode()

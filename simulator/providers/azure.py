"""Azure Communication Services, played from the documents of its Event Grid events: a list of one, behind a secret."""

import uuid
from collections.abc import Sequence
from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import Password

_WORDS = {
    EventType.DELIVERED: ("Delivered",),
    EventType.BOUNCED: ("Bounced",),
    EventType.REJECTED: ("Suppressed", "FilteredSpam", "Quarantined"),
}


class Azure(DescribedDialect):
    """Azure's delivery reports. Its engagement reports name no recipient, and no message of several."""

    NAME = "azure"
    WORDS = _WORDS
    TRAITS = described.traits(
        _WORDS, Password.forgeries, retry=RetryRule(delays_seconds=(10, 30, 60, 300, 600, 1800, 3600))
    )

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Password:
        """Return a secret, sent as a bearer token."""
        return Password(name, seed, field="secret")

    def envelope(self, events: Sequence[Any]) -> Any:
        """Return a list of one."""
        return list(events)

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return an event in the Event Grid schema."""
        named = f"{message.uuid}/{word}/{described.seconds(happening)}/{happening.recipients[0]}"
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, named)),
            "topic": "/subscriptions/0/resourceGroups/mail/providers/Microsoft.Communication/communicationServices/acs",
            "subject": f"sender/{message.sender}/message/{message.uuid}",
            "data": {
                "sender": message.sender,
                "recipient": happening.recipients[0],
                "internetMessageId": f"<{message.smtp_id}>",
                "messageId": message.uuid,
                "status": word,
                "deliveryStatusDetails": known(
                    statusMessage=described.smtp(happening) or "OK",
                    recipientMailServerHostName=happening.remote_host,
                ),
                "deliveryAttemptTimeStamp": f"{happening.at:%Y-%m-%dT%H:%M:%S}.0000000+00:00",
            },
            "eventType": "Microsoft.Communication.EmailDeliveryReportReceived",
            "dataVersion": "1.0",
            "metadataVersion": "1",
            "eventTime": f"{happening.at:%Y-%m-%dT%H:%M:%S}.1234567Z",
        }

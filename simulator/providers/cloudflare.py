"""Cloudflare Email Service, played from the documents of its event subscriptions: what our Worker posts."""

import uuid
from typing import Any

from shared.vocabulary import Classification, EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import TIMED, Secret, standard_webhooks, whsec

_WORDS = {
    EventType.DELIVERED: ("delivered",),
    EventType.DEFERRED: ("deferred",),
    EventType.BOUNCED: ("bounced",),
    EventType.FAILED: ("failed",),
    EventType.REJECTED: ("rejected",),
    EventType.COMPLAINED: ("complained",),
}


class Cloudflare(DescribedDialect):
    """A Queue of events, whose consumer signs batches."""

    NAME = "cloudflare"
    WORDS = _WORDS
    TRAITS = described.traits(
        _WORDS, TIMED, events_per_body=100, rotates=True, retry=RetryRule(delays_seconds=(30,) * 3)
    )

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Secret:
        """Return the Worker's secret."""
        return Secret(name, seed, standard_webhooks(), form=whsec, timed=True)

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return an event of the subscription."""
        reply = happening.reply
        named = f"{message.uuid}/{word}/{described.seconds(happening)}/{happening.recipients[0]}"
        is_soft = reply and reply.classification is Classification.MAILBOX_FULL
        return {
            "type": f"cf.email.sending.message.{word}",
            "source": {"type": "email", "domain": "shop.example"},
            "payload": known(
                eventId=str(uuid.uuid5(uuid.NAMESPACE_URL, named)),
                messageId=message.uuid,
                sender=message.sender,
                recipient=happening.recipients[0],
                subject=message.subject,
                terminal=word != "deferred",
                delivery=reply
                and {
                    "status": word,
                    "smtpStatusCode": int(reply.smtp_status),
                    "smtpEnhancedStatusCode": reply.enhanced_code,
                    "smtpResponse": described.smtp(happening),
                    "provider": "other",
                },
                bounce={"type": "soft" if is_soft else "hard", "classification": "other"}
                if word == "bounced"
                else None,
                rejection={"reason": "suppressed", "party": "provider"} if word == "rejected" else None,
                complaint={"type": "abuse"} if word == "complained" else None,
            ),
            "metadata": {"eventTimestamp": described.rfc3339(happening), "eventSchemaVersion": 1},
        }

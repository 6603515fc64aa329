"""AhaSend, played from the OpenAPI document of its webhooks: one event, signed by Standard Webhooks."""

from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import TIMED, Secret, standard_webhooks

_WORDS = {
    EventType.QUEUED: ("message.reception",),
    EventType.DELIVERED: ("message.delivered",),
    EventType.DEFERRED: ("message.transient_error",),
    EventType.BOUNCED: ("message.bounced",),
    EventType.FAILED: ("message.failed",),
    EventType.REJECTED: ("message.suppressed",),
    EventType.OPENED: ("message.opened",),
    EventType.CLICKED: ("message.clicked",),
}


class AhaSend(DescribedDialect):
    """AhaSend, with the text of the secret as the key."""

    NAME = "ahasend"
    WORDS = _WORDS
    TRAITS = described.traits(_WORDS, TIMED, rotates=True, retry=RetryRule(delays_seconds=(30, 60, 120, 240, 300, 300)))

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Secret:
        """Return a secret with a prefix that belongs to the key."""
        return Secret(
            name, seed, standard_webhooks(raw_secret=True), form=lambda key: f"aha-whsec-{key.hex()}", timed=True
        )

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return the event. Times have nanoseconds; the body's `webhook_id` is the endpoint's."""
        reply = happening.reply
        attempt = reply and {
            "smtp_code": int(reply.smtp_status),
            "enhanced_status_code": reply.enhanced_code,
            "response": f"{reply.smtp_status} {reply.enhanced_code} {reply.text}",
            "classification": "Other",
        }
        return {
            "type": word,
            "timestamp": f"{happening.at:%Y-%m-%dT%H:%M:%S}.000000001Z",
            "webhook_id": "0198b0a0-0000-7000-8000-000000000001",
            "data": known(
                account_id="0198b0a0-0000-7000-8000-000000000002",
                event=f"on_{word.removeprefix('message.')}",
                **{"from": message.sender},
                recipient=happening.recipients[0],
                subject=message.subject,
                message_id_header=f"<{message.smtp_id}>",
                id=message.uuid,
                delivery_attempt=attempt,
                url=happening.url,
                ip=happening.ip,
                user_agent=happening.user_agent,
                is_bot=False if happening.user_agent else None,
            ),
        }

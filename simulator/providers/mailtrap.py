"""Mailtrap, played from docs.mailtrap.io: batches of events, signed over the body."""

import uuid
from collections.abc import Sequence
from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import UNTIMED, Secret, body_hmac

_WORDS = {
    EventType.DELIVERED: ("delivery",),
    EventType.DEFERRED: ("soft bounce",),
    EventType.BOUNCED: ("bounce",),
    EventType.REJECTED: ("reject",),
    EventType.COMPLAINED: ("spam",),
    EventType.OPENED: ("open",),
    EventType.CLICKED: ("click",),
    EventType.UNSUBSCRIBED: ("unsubscribe",),
}


class Mailtrap(DescribedDialect):
    """Mailtrap in its JSON format."""

    NAME = "mailtrap"
    WORDS = _WORDS
    TRAITS = described.traits(
        _WORDS, UNTIMED, events_per_body=500, rotates=True, retry=RetryRule(delays_seconds=(300,) * 40)
    )

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Secret:
        """Return a signing secret of 32 hexadecimal digits, which are not decoded."""
        return Secret(
            name, seed, body_hmac("Mailtrap-Signature"), field="signing_secret", form=lambda key: key.hex()[:32]
        )

    def envelope(self, events: Sequence[Any]) -> Any:
        """Return an object with the list of events."""
        return {"events": list(events)}

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return an event. A failure has the server's reply, and Mailtrap's reason beside it."""
        reply = happening.reply
        named = f"{message.uuid}/{word}/{described.seconds(happening)}/{happening.recipients[0]}"
        return known(
            event=word,
            message_id=message.uuid,
            sending_stream="transactional",
            sending_domain_name="shop.example",
            email=happening.recipients[0],
            category=message.tag,
            custom_variables={"order": "7"},
            timestamp=described.seconds(happening),
            event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, named)),
            response=described.smtp(happening),
            response_code=int(reply.smtp_status) if reply else None,
            bounce_category="badmailbox" if word == "bounce" else None,
            reason="suppressed" if word == "reject" else None,
            ip=happening.ip,
            user_agent=happening.user_agent,
            url=happening.url,
        )

"""SMTP2GO, played from its webhooks' guide: one event behind a password."""

from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import Password

_WORDS = {
    EventType.QUEUED: ("processed",),
    EventType.DELIVERED: ("delivered",),
    EventType.BOUNCED: ("bounce",),
    EventType.REJECTED: ("reject",),
    EventType.COMPLAINED: ("spam",),
    EventType.OPENED: ("open",),
    EventType.CLICKED: ("click",),
    EventType.UNSUBSCRIBED: ("unsubscribe",),
}


class Smtp2go(DescribedDialect):
    """SMTP2GO in its JSON format."""

    NAME = "smtp2go"
    WORDS = _WORDS
    make_signer = Password
    TRAITS = described.traits(_WORDS, Password.forgeries, retry=RetryRule(delays_seconds=(60,) * 35))

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return the event. Its `id` is the webhook's."""
        return known(
            event=word,
            id="a1b2",
            email_id=message.uuid,
            **{"message-id": f"<{message.smtp_id}>"},
            rcpt=happening.recipients[0],
            sender=message.sender,
            subject=message.subject,
            time=described.rfc3339(happening),
            bounce="hard" if word == "bounce" else None,
            message=described.smtp(happening),
            host=happening.remote_host,
            url=happening.url,
            **({"user-agent": happening.user_agent} if happening.user_agent else {}),
            client_ip=happening.ip,
        )

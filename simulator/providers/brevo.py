"""Brevo, played from developers.brevo.com: transactional webhooks, one event for each request, or a batch as a list."""

from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import Password

_WORDS = {
    EventType.QUEUED: ("request",),
    EventType.DELIVERED: ("delivered",),
    EventType.DEFERRED: ("deferred",),
    EventType.BOUNCED: ("hard_bounce",),
    EventType.REJECTED: ("blocked",),
    EventType.FAILED: ("error",),
    EventType.COMPLAINED: ("spam",),
    EventType.OPENED: ("opened", "unique_opened"),
    EventType.CLICKED: ("click",),
    EventType.UNSUBSCRIBED: ("unsubscribed",),
}


class Brevo(DescribedDialect):
    """Brevo, with `batched` windows."""

    NAME = "brevo"
    WORDS = _WORDS
    make_signer = Password
    TRAITS = described.traits(
        _WORDS,
        Password.forgeries,
        events_per_body=500,
        # After any other status the event is discarded.
        retry=RetryRule(delays_seconds=(600, 3600, 7200, 28800), statuses=frozenset({0, 429})),
    )

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return the fields of the documents' samples; `id` is the webhook's."""
        at = described.seconds(happening)
        return known(
            event=word,
            email=happening.recipients[0],
            id=26224,
            date=f"{happening.at:%Y-%m-%d %H:%M:%S}",
            ts=at + 3600,  # in the account's zone
            ts_event=at,
            ts_epoch=at * 1000,
            **{"message-id": f"<{message.smtp_id}>"},
            subject=message.subject,
            sender_email=message.sender,
            tag=message.tag,
            tags=[message.tag] if message.tag else None,
            template_id=22,
            reason=described.smtp(happening),
            link=happening.url,
            user_agent=happening.user_agent,
            sending_ip="198.51.100.7",
        )

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the Message-Id, which Brevo answers a send with."""
        return {"smtp_id": message.smtp_id}

"""Elastic Email, played from its page on notifications: one flat JSON object, posted to a URL with a secret."""

from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import QuerySecret

_WORDS = {
    EventType.DELIVERED: ("Sent",),
    EventType.BOUNCED: ("Error",),
    EventType.COMPLAINED: ("AbuseReport",),
    EventType.OPENED: ("Opened",),
    EventType.CLICKED: ("Clicked",),
    EventType.UNSUBSCRIBED: ("Unsubscribed",),
}
_CATEGORIES = {"5.1.1": "NoMailbox", "5.2.2": "AccountProblem", "4.2.2": "AccountProblem", "5.7.1": "Spam"}


class ElasticEmail(DescribedDialect):
    """Elastic Email by POST. A server's answer is not passed on, only its category."""

    NAME = "elasticemail"
    WORDS = _WORDS
    make_signer = QuerySecret
    TRAITS = described.traits(_WORDS, QuerySecret.forgeries, explains=False)

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return the event. `transaction` is the id of a send, which may have several messages."""
        reply = happening.reply
        return known(
            transaction=f"{message.number:08x}-0000-4000-8000-000000000000",
            messageid=message.uuid,
            **{"from": message.sender},
            to=happening.recipients[0],
            date=f"{happening.at:%m/%d/%Y %I:%M:%S %p}",
            status=word,
            channel=message.tag or "HTTP API",
            account="owner@shop.example",
            category=_CATEGORIES.get(reply.enhanced_code, "Unknown") if reply and word == "Error" else None,
            subject=message.subject,
            target=happening.url,
            postback=f"order-{message.number}",
        )

"""Mailjet, played from its "Event API": grouped events behind a password."""

from typing import Any

from shared.vocabulary import Classification, EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import Password

_WORDS = {
    EventType.DELIVERED: ("sent",),
    EventType.BOUNCED: ("bounce",),
    EventType.REJECTED: ("blocked",),
    EventType.COMPLAINED: ("spam",),
    EventType.OPENED: ("open",),
    EventType.CLICKED: ("click",),
    EventType.UNSUBSCRIBED: ("unsub",),
}
_ERRORS = {
    Classification.INVALID_RECIPIENT: ("recipient", "user unknown"),
    Classification.INACTIVE_MAILBOX: ("recipient", "mailbox inactive"),
    Classification.MAILBOX_FULL: ("recipient", "quota exceeded"),
    Classification.INVALID_DOMAIN: ("domain", "invalid domain"),
    Classification.POLICY_REJECTION: ("spam", "policy issue"),
}


class Mailjet(DescribedDialect):
    """Mailjet with `group events`."""

    NAME = "mailjet"
    WORDS = _WORDS
    make_signer = Password
    TRAITS = described.traits(
        _WORDS, Password.forgeries, events_per_body=100, retry=RetryRule(delays_seconds=(30,) * 2880)
    )

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return an event; the message has a number of 64 bits as its id, and a UUID."""
        reply = happening.reply
        related_to, error = _ERRORS.get(reply.classification, ("system", "system issue")) if reply else (None, None)
        bounced = word == "bounce"
        return known(
            event=word,
            time=described.seconds(happening),
            MessageID=int(message.uuid.replace("-", "")[:15], 16),
            Message_GUID=message.uuid,
            email=happening.recipients[0],
            mj_campaign_id=7257,
            mj_contact_id=4,
            customcampaign="",
            CustomID=message.tag or "",
            Payload='{"order": 1}',
            smtp_reply="sent (250 2.0.0 OK 4242424242)" if word == "sent" else None,
            blocked=False if bounced else None,
            hard_bounce=True if bounced else None,
            error_related_to=related_to,
            error=error,
            comment=described.smtp(happening) if bounced else None,
            ip=happening.ip,
            geo="US" if happening.ip else None,
            agent=happening.user_agent,
            url=happening.url,
            source="JMRPP" if word == "spam" else None,
            mj_list_id=1 if word == "unsub" else None,
        )

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the UUID, which the API answers with besides the number."""
        return {"request_id": message.uuid}

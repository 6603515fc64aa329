"""MailerSend, played from its webhooks' documents: one event, with escaped slashes, signed over the body."""

from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import UNTIMED, Secret, body_hmac

_WORDS = {
    EventType.SENT: ("sent",),
    EventType.DELIVERED: ("delivered",),
    EventType.BOUNCED: ("hard_bounced",),
    EventType.COMPLAINED: ("spam_complaint",),
    EventType.OPENED: ("opened",),
    EventType.CLICKED: ("clicked",),
    EventType.UNSUBSCRIBED: ("unsubscribed",),
}
_MORPHS = {
    "soft_bounced": "recipient_bounce",
    "hard_bounced": "recipient_bounce",
    "opened": "open",
    "clicked": "click",
    "unsubscribed": "recipient_unsubscribe",
    "spam_complaint": "spam_complaint",
}


class MailerSend(DescribedDialect):
    """MailerSend, version 1 of its webhooks."""

    NAME = "mailersend"
    WORDS = _WORDS
    TRAITS = described.traits(_WORDS, UNTIMED, rotates=True, retry=RetryRule(delays_seconds=(10, 100)))

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Secret:
        """Return a signing secret, whose text is the key."""
        return Secret(name, seed, body_hmac("Signature"), field="signing_secret")

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return an event: it is in `data`, and its particulars are in `morph`."""
        at = f"{happening.at:%Y-%m-%dT%H:%M:%S}.000000Z"
        morph = known(
            object=_MORPHS.get(word),
            reason=described.smtp(happening),
            url=happening.url,
            ip=happening.ip,
        )
        return {
            "type": f"activity.{word}",
            "domain_id": "yv69oxl5kl785kw2",
            "created_at": at,
            "webhook_id": "2351ndgwr4zqx8ko",
            "url": "https://hooks.example.com/webhooks/main",
            "data": {
                "object": "activity",
                "id": f"{message.number:08x}{described.seconds(happening):x}{sum(map(ord, word)):x}",
                "type": word,
                "created_at": at,
                "email": {
                    "object": "email",
                    "id": message.uuid.replace("-", ""),
                    "created_at": f"{message.submitted_at:%Y-%m-%dT%H:%M:%S}.000000Z",
                    "from": message.sender,
                    "subject": message.subject,
                    "status": word,
                    "tags": [message.tag] if message.tag else None,
                    "message": {"object": "message", "id": message.uuid},
                    "recipient": {"object": "recipient", "id": "5f1", "email": happening.recipients[0]},
                },
                "morph": morph or None,
                "template_id": "0z76k5jg0o3yeg2d",
            },
        }

    def body(self, happenings: Any) -> bytes:
        """Return JSON as PHP writes it, with escaped slashes."""
        return super().body(happenings).replace(b"/", b"\\/")

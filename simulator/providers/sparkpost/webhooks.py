"""SparkPost, played from its webhooks' documents: batches of wrapped events behind a password."""

from typing import Any

from shared.vocabulary import Classification, EventType
from simulator.keys import seed_bytes
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import Password

_WORDS = {
    EventType.QUEUED: ("injection",),
    EventType.DELIVERED: ("delivery",),
    EventType.DEFERRED: ("delay",),
    EventType.BOUNCED: ("bounce",),
    EventType.REJECTED: ("policy_rejection",),
    EventType.FAILED: ("generation_failure",),
    EventType.COMPLAINED: ("spam_complaint",),
    EventType.OPENED: ("open",),
    EventType.CLICKED: ("click",),
    EventType.UNSUBSCRIBED: ("list_unsubscribe", "link_unsubscribe"),
}
_CLASSES = {"open": "track_event", "click": "track_event", "generation_failure": "gen_event"}
_BOUNCE_CLASSES = {
    Classification.INVALID_RECIPIENT: "10",
    Classification.INACTIVE_MAILBOX: "30",
    Classification.MAILBOX_FULL: "22",
    Classification.INVALID_DOMAIN: "30",
    Classification.POLICY_REJECTION: "50",
    Classification.TRANSIENT_FAILURE: "20",
}


class SparkPost(DescribedDialect):
    """SparkPost with a batch id."""

    NAME = "sparkpost"
    WORDS = _WORDS
    make_signer = Password
    TRAITS = described.traits(
        _WORDS, Password.forgeries, events_per_body=350, retry=RetryRule(delays_seconds=(60,) * 11)
    )

    def __init__(self, *, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.api_key = seed_bytes("sparkpost/api", seed).hex()[:40]

    def credentials(self) -> dict[str, Any]:
        """Return what an operator enters for it."""
        return {**super().credentials(), "api_key": self.api_key}

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return the event. Numbers are written as texts."""
        reply = happening.reply
        name = word if happening.after_delivery is False else "out_of_band"
        kind = "unsubscribe_event" if "unsubscribe" in word else _CLASSES.get(word, "message_event")
        fields = known(
            type=name,
            event_id=str(message.number * 1000 + described.seconds(happening) % 100000 + sum(map(ord, name))),
            timestamp=str(described.seconds(happening)),
            message_id=message.uuid,
            transmission_id=message.uuid.replace("-", "")[:17],
            raw_rcpt_to=happening.recipients[0],
            rcpt_to=happening.recipients[0],
            rcpt_meta={"customer": "7"},
            rcpt_tags=[message.tag] if message.tag else [],
            subject=message.subject,
            friendly_from=message.sender,
            campaign_id="spring",
            bounce_class=_BOUNCE_CLASSES.get(reply.classification, "1") if reply else None,
            error_code=reply.smtp_status if reply else None,
            reason=described.smtp(happening),
            raw_reason=described.smtp(happening),
            num_retries="2",
            target_link_url=happening.url,
            ip_address=happening.ip,
            user_agent=happening.user_agent,
            fbtype="abuse" if word == "spam_complaint" else None,
        )
        return {"msys": {kind: fields}}

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the id of the transmission."""
        return {"request_id": message.uuid.replace("-", "")[:17]}

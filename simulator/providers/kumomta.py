"""KumoMTA, played from the documents of its log records: what a log hook posts, one record in a line."""

from collections.abc import Sequence
from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import Password

_WORDS = {
    EventType.QUEUED: ("Reception",),
    EventType.DELIVERED: ("Delivery",),
    EventType.DEFERRED: ("TransientFailure",),
    EventType.BOUNCED: ("Bounce",),
    EventType.FAILED: ("Expiration",),
    EventType.COMPLAINED: ("Feedback",),
}


class KumoMta(DescribedDialect):
    """KumoMTA with a log hook that batches."""

    NAME = "kumomta"
    WORDS = _WORDS
    make_signer = Password
    TRAITS = described.traits(
        _WORDS, Password.forgeries, events_per_body=100, retry=RetryRule(delays_seconds=(60,) * 20)
    )

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return a record in each line."""
        return b"\n".join(described.dump(self._event(happening)) for happening in happenings)

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return a record; the enhanced code is an object of three numbers."""
        reply = happening.reply
        parts = [int(part) for part in reply.enhanced_code.split(".")] if reply else [2, 0, 0]
        return known(
            type="OOB" if happening.after_delivery else word,
            id=message.uuid,
            sender=message.sender,
            recipient=happening.recipients[0],
            queue=happening.recipients[0].rpartition("@")[2],
            site="mx1.customer.example->mx2.customer.example@smtp_client",
            size=1234,
            response={
                "code": int(reply.smtp_status) if reply else 250,
                "enhanced_code": dict(zip(("class", "subject", "detail"), parts, strict=True)),
                "content": reply.text if reply else "OK ids=8a5475ccbbc611eda12250ebf67f93bd",
                "command": None,
            },
            peer_address={"name": happening.remote_host or "mx1.customer.example.", "addr": "203.0.113.9"},
            timestamp=described.seconds(happening),
            created=int(message.submitted_at.timestamp()),
            num_attempts=0,
            bounce_classification="Uncategorized",
            egress_pool="pool0",
            egress_source="source0",
            meta={"order": "7"},
            headers={"Subject": message.subject, "Message-ID": f"<{message.smtp_id}>"},
            feedback_report={"feedback_type": "abuse"} if word == "Feedback" else None,
        )

"""Emailit, played from emailit.com/docs/webhooks: a list of events, signed over time and body."""

from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import TIMED, Secret, timed_hmac, whsec

_WORDS = {
    EventType.QUEUED: ("email.accepted", "email.scheduled"),
    EventType.DELIVERED: ("email.delivered",),
    EventType.DEFERRED: ("email.attempted",),
    EventType.BOUNCED: ("email.bounced",),
    EventType.FAILED: ("email.failed",),
    EventType.REJECTED: ("email.rejected", "email.suppressed"),
    EventType.COMPLAINED: ("email.complained",),
    EventType.OPENED: ("email.loaded",),
    EventType.CLICKED: ("email.clicked",),
}


class Emailit(DescribedDialect):
    """Emailit, version 2."""

    NAME = "emailit"
    WORDS = _WORDS
    TRAITS = described.traits(
        _WORDS,
        TIMED,
        events_per_body=100,
        rotates=True,
        retry=RetryRule(delays_seconds=(300, 1800, 7200, 18000, *(43200,) * 6)),
    )

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Secret:
        """Return a secret whose whole text is the key, prefix included."""
        return Secret(name, seed, timed_hmac("X-Emailit-Signature", "X-Emailit-Timestamp"), form=whsec, timed=True)

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return one email for each recipient."""
        reply = happening.reply
        return {
            "event_id": f"evt_{message.uuid}_{word}_{described.seconds(happening)}_{happening.recipients[0]}",
            "type": word,
            "created_at": described.rfc3339(happening),
            "data": {
                "object": known(
                    id=message.uuid,
                    message_id=f"<{message.smtp_id}>",
                    to=happening.recipients[0],
                    **{"from": message.sender},
                    subject=message.subject,
                    meta={"order": "7"},
                    status=word.removeprefix("email."),
                    smtp_code=int(reply.smtp_status) if reply else None,
                    smtp_response=described.smtp(happening),
                    url=happening.url,
                    ip=happening.ip,
                    user_agent=happening.user_agent,
                )
            },
        }

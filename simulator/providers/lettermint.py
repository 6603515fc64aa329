"""Lettermint, played from its Python SDK and listmonk's handler: one event, signed over time and body."""

from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import TIMED, Secret, paired_hmac

_WORDS = {
    EventType.DELIVERED: ("message.delivered",),
    EventType.DEFERRED: ("message.soft_bounced",),
    EventType.BOUNCED: ("message.hard_bounced",),
    EventType.COMPLAINED: ("message.spam_complaint",),
}


class Lettermint(DescribedDialect):
    """Lettermint; only its confirmed kinds."""

    NAME = "lettermint"
    WORDS = _WORDS
    TRAITS = described.traits(_WORDS, TIMED, rotates=True)

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Secret:
        """Return a secret, whose text is the key."""
        return Secret(name, seed, paired_hmac("X-Lettermint"), timed=True)

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return an event, in which the server's reply is an object."""
        reply = happening.reply
        response = reply and {
            "status_code": int(reply.smtp_status),
            "enhanced_status_code": reply.enhanced_code,
            "content": reply.text,
        }
        return {
            "id": f"evt_{message.uuid}_{word}_{described.seconds(happening)}",
            "event": word,
            "timestamp": described.rfc3339(happening),
            "data": known(
                message_id=message.uuid,
                recipient=happening.recipients[0],
                subject=message.subject,
                tag=message.tag,
                metadata={"order": "7"},
                response=response,
            ),
        }

"""MailPace, played from its webhooks' documents: one event, signed by Ed25519."""

from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import UNTIMED, KeyPair

_WORDS = {
    EventType.QUEUED: ("email.queued",),
    EventType.DELIVERED: ("email.delivered",),
    EventType.DEFERRED: ("email.deferred",),
    EventType.BOUNCED: ("email.bounced",),
    EventType.REJECTED: ("email.spam",),
}


class MailPace(DescribedDialect):
    """MailPace: after any refusal it disables the webhook, so it must see none."""

    NAME = "mailpace"
    WORDS = _WORDS
    TRAITS = described.traits(
        _WORDS,
        UNTIMED,
        explains=False,
        retry=RetryRule(delays_seconds=(60,) * 10, statuses=frozenset({0})),
        refused_with_200=True,
    )

    @staticmethod
    def make_signer(name: str, seed: int | None) -> KeyPair:
        """Return the key of the domain."""
        return KeyPair(name, seed, header="X-MailPace-Signature")

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return the email as it is now."""
        return {
            "event": word,
            "payload": known(
                id=message.uuid,
                status=word.removeprefix("email."),
                message_id=f"<{message.smtp_id}>",
                to=happening.recipients[0],
                created_at=message.submitted_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                updated_at=happening.at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                tags=[message.tag] if message.tag else [],
            ),
        }

"""Acme, which no adapter was written for: batches of events, signed over time and body, as `mapping.yaml` says.

The mapping is the example of docs/generic.md, and what a source of the provider `generic` has in its settings.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import TIMED, Secret, timed_hmac

_WORDS = {
    EventType.DELIVERED: ("delivery",),
    EventType.DEFERRED: ("retry",),
    EventType.BOUNCED: ("bounce",),
    EventType.OPENED: ("open",),
    EventType.CLICKED: ("click",),
    EventType.COMPLAINED: ("complaint",),
}


@cache
def read_mapping() -> dict[str, Any]:
    """Return the mapping of the source."""
    mapping: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("mapping.yaml").read_text(encoding="utf-8"))
    return mapping


class Acme(DescribedDialect):
    """Acme with batches of up to ten events."""

    NAME = "generic"
    WORDS = _WORDS
    TRAITS = described.traits(_WORDS, TIMED, events_per_body=10, rotates=True)

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Secret:
        """Return a secret, whose text is the key."""
        return Secret(name, seed, timed_hmac("X-Acme-Signature", "X-Acme-Timestamp", prefix="v1="), timed=True)

    def envelope(self, events: Sequence[Any]) -> Any:
        """Return an object with the list."""
        return {"events": list(events)}

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return an event, in which the message and each tag are objects."""
        return known(
            event=word,
            id=f"{message.uuid}/{word}/{described.seconds(happening)}/{happening.recipients[0]}",
            email=happening.recipients[0],
            ts=described.seconds(happening),
            message={"id": message.uuid, "subject": message.subject},
            response=described.smtp(happening),
            link=happening.url,
            tags=[{"name": message.tag}] if message.tag else [],
        )

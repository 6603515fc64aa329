"""Simulated providers whose events are JSON objects: each is its words, a function that writes an event, a signer."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported
from simulator.providers.signers import Signer

Words = Mapping[EventType, tuple[str, ...]]
"""Our kinds in the provider's words; of two words a message always gets the same."""


class DescribedDialect:
    """A provider with one recipient for each event. Subclasses say how it writes and signs."""

    NAME: str
    TRAITS: Traits
    WORDS: Words
    KEYS_PATH: str | None = None

    def __init__(self, *, seed: int | None = None) -> None:
        self.signer = self.make_signer(self.NAME, seed)

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Signer:
        """Return what signs for the provider, with secrets of that seed."""
        raise NotImplementedError

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return one event in the provider's JSON."""
        raise NotImplementedError

    def envelope(self, events: Sequence[Any]) -> Any:
        """Return the body of these events; here a list, or the only event."""
        return list(events) if self.TRAITS.events_per_body > 1 else events[0]

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return the body of these events. Raises ValueError if the provider has no such event."""
        return dump(self.envelope([self._event(happening) for happening in happenings]))

    def _event(self, happening: Happening) -> Any:
        words = self.WORDS.get(happening.kind)
        if words is None or len(happening.recipients) != 1:
            raise unsupported(self.NAME, happening.kind)
        message = happening.subject_message
        return self.event(words[message.number % len(words)], happening, message)

    @property
    def key_id(self) -> str:
        """The name of the key that it signs with at present."""
        return self.signer.key_id

    def credentials(self) -> dict[str, Any]:
        """Return what an operator enters for it."""
        return self.signer.credentials()

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:
        """Return all headers of the request."""
        return self.signer.sign(body, now, key_id or self.key_id)

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        return self.signer.forge(body, now, forgery)

    def rotate(self) -> str:
        """Switch to a new key."""
        return self.signer.rotate()

    def key_document(self, query: Mapping[str, str]) -> bytes | None:  # noqa: ARG002
        """Return None: it publishes no keys."""
        return None

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the id that its API answers a send with."""
        return {"message_id": message.uuid}


def traits(
    words: Words,
    forgeries: frozenset[Forgery],
    *,
    events_per_body: int = 1,
    rotates: bool = False,
    explains: bool = True,
    retry: RetryRule | None = None,
    refused_with_200: bool = False,
) -> Traits:
    """Return the traits of a provider with these words: its events have a time and one recipient."""
    return Traits(
        speaks=frozenset(words),
        events_per_body=events_per_body,
        one_recipient=True,
        nameless=False,
        timed=True,
        explains=explains,
        publishes_keys=False,
        rotates=rotates,
        forgeries=forgeries,
        retry=retry or RetryRule(),
        refused_with_200=refused_with_200,
    )


def dump(value: Any) -> bytes:
    """Return compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def known(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def seconds(happening: Happening) -> int:
    """Return its time in Unix seconds."""
    return int(happening.at.timestamp())


def rfc3339(happening: Happening) -> str:
    """Return its time as in RFC 3339, in UTC."""
    return happening.at.strftime("%Y-%m-%dT%H:%M:%SZ")


def smtp(happening: Happening) -> str | None:
    """Return the reply as a server writes it; None without one."""
    reply = happening.reply
    return f"{reply.smtp_status} {reply.enhanced_code} {reply.text}" if reply else None

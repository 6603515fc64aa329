"""Unisender Go, played from its event callback: batches by user, with an MD5 in the body itself."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, unsupported
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import UNTIMED, OneSecret

_WORDS = {
    EventType.SENT: ("sent",),
    EventType.DELIVERED: ("delivered",),
    EventType.DEFERRED: ("soft_bounced",),
    EventType.BOUNCED: ("hard_bounced",),
    EventType.COMPLAINED: ("spam",),
    EventType.OPENED: ("opened",),
    EventType.CLICKED: ("clicked",),
    EventType.UNSUBSCRIBED: ("unsubscribed",),
}
_HEADERS = {"Content-Type": "application/json"}
_PLACE = b'"auth":"'


class ApiKey(OneSecret):
    """The API key of the account, which is in the body while its MD5 is computed."""

    forgeries = UNTIMED

    def __init__(self, name: str, seed: int | None) -> None:
        # The same without a seed: a body contains its MD5, and the bodies of a play must not depend on chance.
        super().__init__(name, seed or 0, "api", length=40)

    def credentials(self) -> dict[str, Any]:
        """Return the key."""
        return {"api_key": self._secret}

    def seal(self, body: bytes, key: str | None = None) -> bytes:
        """Return the body with its MD5 in `auth`."""
        start = body.index(_PLACE) + len(_PLACE)
        rest = body[body.index(b'"', start) :]
        digest = hashlib.md5(body[:start] + (key or self._secret).encode() + rest, usedforsecurity=False).hexdigest()
        return body[:start] + digest.encode() + rest

    def sign(self, body: bytes, now: datetime, key_id: str) -> Headers:  # noqa: ARG002
        """Return the headers, of which none signs."""
        return dict(_HEADERS)

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:  # noqa: ARG002
        """Return the request as a forger makes it."""
        start = body.index(_PLACE) + len(_PLACE)
        if forgery is Forgery.TAMPERED:
            return Signed(dict(_HEADERS), body + b" ")
        if forgery is Forgery.WRONG_KEY:
            return Signed(dict(_HEADERS), self.seal(body, "guess"))
        if forgery is Forgery.MALFORMED:
            return Signed(dict(_HEADERS), body[:start] + b"zz" + body[start + 2 :])
        if forgery is Forgery.UNSIGNED:
            return Signed(dict(_HEADERS), body.replace(body[start - len(_PLACE) : start + 34], b""))
        raise unsupported(self._name, forgery)


class Unisender(DescribedDialect):
    """Unisender Go with one user."""

    NAME = "unisender"
    WORDS = _WORDS
    signer: ApiKey
    make_signer = ApiKey
    TRAITS = described.traits(_WORDS, UNTIMED, events_per_body=100, retry=RetryRule(delays_seconds=(600,) * 144))

    def envelope(self, events: Sequence[Any]) -> Any:
        """Return the events of a user, among those of others in theory."""
        return {
            "auth": "0" * 32,
            "events_by_user": [{"user_id": 456, "project_id": "6123462132634", "events": list(events)}],
        }

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return the body, with its MD5."""
        return self.signer.seal(super().body(happenings))

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return the event. Times are in UTC, without saying so."""
        reply = happening.reply
        delivery_info = known(
            delivery_status="err_will_retry" if word == "soft_bounced" else "err_delivery_failed" if reply else "ok",
            destination_response=described.smtp(happening),
            user_agent=happening.user_agent,
            ip=happening.ip,
        )
        return {
            "event_name": "transactional_email_status",
            "event_data": known(
                job_id=message.uuid,
                metadata={"order": "7"},
                email=happening.recipients[0],
                status=word,
                event_time=f"{happening.at:%Y-%m-%d %H:%M:%S}",
                url=happening.url,
                delivery_info=delivery_info,
            ),
        }

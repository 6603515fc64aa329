"""CloudMailin's outbound events: unsigned, so authentic by the password in the address they are sent to.

Written from docs.cloudmailin.com/outbound/sending_email_events_webhook and securing_your_email_url_target.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zlib import crc32

from shared.vocabulary import EventType
from simulator.keys import seed_bytes
from simulator.mail import Happening, Message
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported

_KINDS: Mapping[EventType, tuple[str, ...]] = {
    EventType.QUEUED: ("registration",),
    EventType.SENT: ("dispatch",),
    EventType.RATE_LIMITED: ("rate_limit",),
    EventType.DELIVERED: ("delivery",),
    EventType.BOUNCED: ("bounce",),
    EventType.DEFERRED: ("soft_bounce", "dispatch_soft_bounce"),
    EventType.FAILED: ("retries_exhausted", "error"),
    EventType.OPENED: ("open",),
    EventType.READ: ("read",),
    EventType.CLICKED: ("click",),
    EventType.AUTORESPONDED: ("auto_reply",),
    EventType.REPLIED: ("bounce_reply",),
    EventType.REJECTED: ("suppressed",),
    EventType.COMPLAINED: ("complaint",),  # in earlier editions of the documents
}
"""Our kinds in their words; of two words a message always gets the same."""

_MALFORMED = ("Basic", "Basic \xff\xfe", "Basic !!!!", "Basic bm9jb2xvbg==", "Bearer abc", "Digest x=1")


class CloudMailin:
    """CloudMailin, posting to an address with user and password."""

    NAME = "cloudmailin"
    KEYS_PATH: str | None = None
    TRAITS = Traits(
        speaks=frozenset(_KINDS),
        events_per_body=1000,
        one_recipient=True,
        nameless=False,
        timed=False,
        explains=False,
        publishes_keys=False,
        rotates=False,
        forgeries=frozenset({Forgery.WRONG_KEY, Forgery.UNKNOWN_KEY, Forgery.MALFORMED, Forgery.UNSIGNED}),
        retry=RetryRule(),  # nothing is documented for outbound events
    )

    def __init__(self, *, seed: int | None = None, username: str = "tidings") -> None:
        self._seed = seed
        self._username = username
        self._passwords: list[str] = []
        self.rotate()

    @property
    def key_id(self) -> str:
        """Return the user name: nothing else identifies a password."""
        return self._username

    def rotate(self) -> str:
        """Switch to a new password; the old one is no longer sent."""
        number = len(self._passwords) + 1
        # A colon and a letter beyond ASCII, which the documents ask to percent-encode, must survive.
        self._passwords.append("pä:" + seed_bytes(f"{self.NAME}/{number}", self._seed).hex()[:24])
        return self._username

    def credentials(self) -> dict[str, Any]:
        """Return user and password of the address."""
        return {"username": self._username, "password": self._passwords[-1]}

    def key_document(self, query: Mapping[str, str]) -> bytes | None:  # noqa: ARG002
        """Return None: there are no keys."""
        return None

    def lookup(self, message: Message) -> dict[str, str]:
        """Return CloudMailin's own id, which the SMTP dialogue ended with."""
        return {"message_id": message.uuid}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return an object with the list of events."""
        events = [_event(happening) for happening in happenings]
        return json.dumps({"events": events}, ensure_ascii=False, separators=(",", ":")).encode()

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:  # noqa: ARG002
        """Return the headers of basic authentication (RFC 7617)."""
        return _headers(_basic(self._username, self._passwords[-1]))

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:  # noqa: ARG002
        """Return the request as a forger makes it."""
        match forgery:
            case Forgery.WRONG_KEY:
                return Signed(_headers(_basic(self._username, "guess")), body)
            case Forgery.UNKNOWN_KEY:
                return Signed(_headers(_basic("nobody", self._passwords[-1])), body)
            case Forgery.MALFORMED:
                return Signed(_headers(_MALFORMED[crc32(body) % len(_MALFORMED)]), body)
            case Forgery.UNSIGNED:
                return Signed(_headers(None), body)
            case _:
                raise unsupported(self.NAME, forgery)


def _event(happening: Happening) -> dict[str, Any]:
    words = _KINDS.get(happening.kind)
    if words is None or len(happening.recipients) != 1:
        raise unsupported(CloudMailin.NAME, happening.kind)
    message = happening.subject_message
    event: dict[str, Any] = {
        "kind": words[message.number % len(words)],
        "recipient": happening.recipients[0],
        "message_id": message.uuid,
    }
    if happening.kind is not EventType.QUEUED:  # as in the documents' samples
        event["details"] = {"url": happening.url} if happening.url else {}
    return event


def _headers(authorization: str | None) -> Headers:
    headers = {"Content-Type": "application/json"}
    return headers | {"Authorization": authorization} if authorization is not None else headers


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")

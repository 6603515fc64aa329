"""Senders that sign by Standard Webhooks 1.0.0, in the headers of the specification or in Svix'.

Written from the specification of github.com/standard-webhooks.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from simulator.mail import Happening
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, unsupported
from simulator.providers.secrets import WithSecrets

TOLERANCE_SECONDS = 300
FORGERIES = frozenset(
    {Forgery.TAMPERED, Forgery.STALE, Forgery.FUTURE, Forgery.WRONG_KEY, Forgery.MALFORMED, Forgery.UNSIGNED}
)
RETRY = RetryRule(delays_seconds=(5, 300, 1800, 7200, 18000, 36000, 36000))
_MALFORMED = ("", "v1", "v1,", "v1,!!!!", "v2,AAAA", "v1;AAAA", "\xff", "v1,A v1,B", "," * 90)


class StandardWebhooks(WithSecrets):
    """Signs with every secret that is valid, as during a rotation."""

    PREFIX = "webhook-"

    def credentials(self) -> dict[str, Any]:
        """Return all secrets."""
        return {"secrets": ["whsec_" + base64.b64encode(secret).decode("ascii") for secret in self._secrets.values()]}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return the body of these happenings."""
        raise NotImplementedError

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:
        """Return the id of the message, the time of this attempt, and the signature."""
        return self._headers(body, now, self.secret(key_id))

    def _headers(self, body: bytes, now: datetime, secret: bytes, signature: str | None = None) -> Headers:
        message_id = f"msg_{hashlib.sha256(body).hexdigest()[:27]}"
        at = str(int(now.timestamp()))
        if signature is None:
            signed = f"{message_id}.{at}.".encode("ascii") + body
            signature = "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode("ascii")
        return {
            "Content-Type": "application/json",
            "User-Agent": "Svix-Webhooks/1.70",
            f"{self.PREFIX}id": message_id,
            f"{self.PREFIX}timestamp": at,
            f"{self.PREFIX}signature": signature,
        }

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        secret, shift = self.secret(self._first), timedelta(seconds=TOLERANCE_SECONDS + 2)
        match forgery:
            case Forgery.TAMPERED:
                return Signed(self._headers(body, now, secret), body + b" ")
            case Forgery.STALE:
                return Signed(self._headers(body, now - shift, secret), body)
            case Forgery.FUTURE:
                return Signed(self._headers(body, now + shift + timedelta(seconds=30), secret), body)
            case Forgery.WRONG_KEY:
                return Signed(self._headers(body, now, b"guess"), body)
            case Forgery.MALFORMED:
                return Signed(self._headers(body, now, secret, _MALFORMED[crc32(body) % len(_MALFORMED)]), body)
            case Forgery.UNSIGNED:
                return Signed({"Content-Type": "application/json"}, body)
            case _:
                raise unsupported(self.NAME, forgery)

"""Mandrill, played from mailchimp.com/developer: batches in a form, signed over the URL and the form."""

import base64
import hmac
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers import described
from simulator.providers.base import Headers, RetryRule
from simulator.providers.described import DescribedDialect, known
from simulator.providers.signers import UNTIMED, Secret

_WORDS = {
    EventType.SENT: ("send",),
    EventType.DELIVERED: ("delivered",),
    EventType.DEFERRED: ("deferral",),
    EventType.BOUNCED: ("hard_bounce",),
    EventType.REJECTED: ("reject",),
    EventType.COMPLAINED: ("spam",),
    EventType.OPENED: ("open",),
    EventType.CLICKED: ("click",),
    EventType.UNSUBSCRIBED: ("unsub",),
}
_URL = "https://hooks.example.com/webhooks/main"


def _sign(body: bytes, secret: bytes, now: datetime) -> Headers:  # noqa: ARG001
    signed = _URL + "".join(name + value for name, value in sorted(parse_qsl(body.decode(), keep_blank_values=True)))
    signature = hmac.new(secret, signed.encode(), "sha1").digest()
    return {"X-Mandrill-Signature": base64.b64encode(signature).decode()}


class Mandrill(DescribedDialect):
    """Mandrill, whose webhook has that URL."""

    NAME = "mandrill"
    WORDS = _WORDS
    TRAITS = described.traits(
        _WORDS, UNTIMED, events_per_body=1000, rotates=True, retry=RetryRule(delays_seconds=(60,) * 10)
    )

    @staticmethod
    def make_signer(name: str, seed: int | None) -> Secret:
        """Return the webhook's key."""
        return Secret(
            name,
            seed,
            _sign,
            field="webhook_key",
            form=lambda key: key.hex()[:22],
            extra={"webhook_url": _URL},
            content_type="application/x-www-form-urlencoded",
            tamper=b"&more=1",
        )

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return a form with one field."""
        events = json.dumps([self._event(happening) for happening in happenings])
        return urlencode({"mandrill_events": events}).encode()

    def event(self, word: str, happening: Happening, message: Message) -> Any:
        """Return the message as it is now, and the event. Both have the id of the message."""
        reply = described.smtp(happening)
        attempt = {"ts": described.seconds(happening), "type": "deferred", "diag": reply, "source_ip": "198.51.100.7"}
        return known(
            event=word,
            _id=message.uuid,
            ts=described.seconds(happening),
            msg=known(
                _id=message.uuid,
                email=happening.recipients[0],
                state="sent",
                ts=int(message.submitted_at.timestamp()),
                subject=message.subject,
                sender=message.sender,
                tags=[message.tag] if message.tag else [],
                metadata={"order": "7"},
                diag=f"smtp;{reply}" if reply and word == "hard_bounce" else None,
                smtp_events=[attempt] if word == "deferral" else [],
                opens=[],
                clicks=[],
                reject={"reason": "hard-bounce"} if word == "reject" else None,
            ),
            url=happening.url,
            ip=happening.ip,
            user_agent=happening.user_agent,
        )

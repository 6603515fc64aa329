"""An application that receives changes: verifies signatures, fails on request, and counts."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Lock
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from simulator.serving import Call, Response, Server
from simulator.subscribing.behaviours import Behaviour, Moment, healthy

_ID = "webhook-id"
_REFUSAL = Response(status=HTTPStatus.UNAUTHORIZED, content=b"signed by nobody that I trust")


@dataclass(slots=True, kw_only=True)
class Tally:
    """The counters of a subscriber.

    `taken`: how often each `webhook-id` was taken, which is: it was genuine, and the subscriber decided on 2xx.
    `decided`: how often each status was decided on, whether or not it arrived. `mislabelled`: genuine requests whose
    `Idempotency-Key`, or the id in their body, is not the `webhook-id`. `disordered`: what was taken for the first time
    when something newer was known of the same recipient of the same message.
    """

    taken: Counter[str] = field(default_factory=Counter)
    decided: Counter[int] = field(default_factory=Counter)
    bad_signatures: int = 0
    mislabelled: int = 0
    disordered: int = 0

    @property
    def requests(self) -> int:
        """Return the number of requests."""
        return self.decided.total()

    def missed(self, ids: Iterable[str]) -> list[str]:
        """Return the given changes that were never received."""
        return [name for name in ids if name not in self.taken]

    def doubled(self) -> Mapping[str, int]:
        """Return the changes that were accepted more than once, with their counts."""
        return {name: times for name, times in self.taken.items() if times > 1}


class Subscriber(Server):
    """Accepts every change that is signed with a trusted secret, unless a behaviour says otherwise."""

    def __init__(self, behaviour: Behaviour | None = None, *, port: int = 0) -> None:
        super().__init__(port=port)
        self._lock = Lock()
        self._trusted: list[Webhook] = []
        self._tally = Tally()
        self._versions: dict[tuple[str, str], int] = {}
        self.behave(behaviour or healthy())

    @property
    def endpoint(self) -> str:
        """Return the URL for deliveries."""
        return f"{self.url}/changes"

    @property
    def tally(self) -> Tally:
        """Return a copy of the counters."""
        with self._lock:
            return deepcopy(self._tally)

    def trust(self, secret: str) -> None:
        """Take what is signed with this secret (`whsec_…`), too."""
        with self._lock:
            self._trusted = [*self._trusted, Webhook(secret)]

    def behave(self, behaviour: Behaviour) -> None:
        """Answer like this from now on."""
        with self._lock:
            self._behaviour = behaviour
            self._behaves_since = time.monotonic()
            self._requests = 0

    def answer(self, call: Call) -> Response:
        """Return the response of the behaviour; 401 instead of 2xx for an invalid signature."""
        is_genuine = False
        for webhook in self._trusted:
            # A header that is not even in the form of a signature raises ValueError.
            with suppress(WebhookVerificationError, ValueError):
                webhook.verify(call.body, dict(call.headers), json_parse=False)
                is_genuine = True
        with self._lock:
            self._requests += 1
            moment = Moment(number=self._requests, elapsed_seconds=time.monotonic() - self._behaves_since)
            response = self._behaviour(moment)
            if _is_success(response.status) and not is_genuine:
                response = _REFUSAL
            self._tally.decided[response.status] += 1
            if is_genuine:
                self._count(call, is_accepted=_is_success(response.status))
            else:
                self._tally.bad_signatures += 1
        return response

    def _count(self, call: Call, *, is_accepted: bool) -> None:
        try:
            document = json.loads(call.body)
        except ValueError:
            document = None
        change: Mapping[str, Any] = document if isinstance(document, dict) else {}
        name = call.headers[_ID]
        if not name == call.headers.get("idempotency-key") == change.get("id"):
            self._tally.mislabelled += 1
        if not is_accepted:
            return
        data = change.get("data") or {}
        message, version = data.get("message"), data.get("version")
        if name not in self._tally.taken and message and version is not None:
            subject = (message["id"], data["recipient"])
            known = self._versions.get(subject, version)
            self._tally.disordered += version < known
            self._versions[subject] = max(version, known)
        self._tally.taken[name] += 1


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES

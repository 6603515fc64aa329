"""The API of Postmark: the webhooks of a server, and the suppressions of its message streams.

Written from postmarkapp.com/developer/api ("Webhooks API", "Suppressions API", and the table of error codes).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import count
from threading import Lock
from typing import Any

from simulator.deliveries import DeliveryLog
from simulator.providers.api.account import Account
from simulator.providers.api.routes import RefusedError, Route, is_endpoint, json_response, read_object
from simulator.providers.postmark.webhooks import Postmark
from simulator.serving import Call, Response

_INVALID = HTTPStatus.UNPROCESSABLE_ENTITY
_STREAMS = ("outbound", "broadcast")
_TRIGGERS = ("Open", "Click", "Delivery", "Bounce", "SpamComplaint", "SubscriptionChange")
_MAX_ENTRIES = 50
_CODES: Mapping[int, int] = {HTTPStatus.UNAUTHORIZED: 10, _INVALID: 300}
"""The `ErrorCode` of a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """An address that a stream does not send to."""

    address: str
    reason: str
    origin: str
    created_at: datetime

    def document(self) -> dict[str, Any]:
        """Return the entry as the dump shows it."""
        return {
            "EmailAddress": self.address,
            "SuppressionReason": self.reason,
            "Origin": self.origin,
            "CreatedAt": self.created_at.replace(microsecond=0).isoformat(),
        }


class PostmarkAccount(Account):
    """One server with a transactional and a broadcast stream.

    Postmark suppresses asynchronously, within a minute; here it happens at once.
    """

    BASE = "/postmark"  # the real one has none, but here one host plays many providers
    dialect: Postmark

    def __init__(self, dialect: Postmark) -> None:
        super().__init__(dialect, DeliveryLog(self._webhook_of))
        self.webhooks: dict[int, dict[str, Any]] = {}
        self._ids = count(1234567)
        self._lists: dict[str, dict[str, Suppression]] = {stream: {} for stream in _STREAMS}
        self._lock = Lock()

    def enrol(self, url: str) -> str:
        """Return the id of a webhook for all events of the transactional stream."""
        return str(self._create({"Url": url, "Triggers": {name: {"Enabled": True} for name in _TRIGGERS}})["ID"])

    def _webhook_of(self, url: str) -> str | None:
        return next((str(id_) for id_, one in self.webhooks.items() if one["Url"] == url), None)

    def put(
        self, address: str, reason: str = "HardBounce", origin: str = "Recipient", *, stream: str = "outbound"
    ) -> None:
        """Suppress an address, as Postmark does after a bounce or complaint; one that is suppressed stays so."""
        entry = Suppression(address=address, reason=reason, origin=origin, created_at=datetime.now(UTC))
        with self._lock:
            self._lists[stream].setdefault(address.lower(), entry)

    def suppressed(self, stream: str = "outbound") -> dict[str, str]:
        """Return the suppressed addresses of a stream with their reasons."""
        with self._lock:
            return {entry.address: entry.reason for entry in self._lists[stream].values()}

    def _routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/webhooks", self._list_webhooks),
            Route("POST", "/webhooks", self._create_webhook),
            Route("DELETE", "/webhooks/{id_}", self._delete_webhook),
            Route("GET", "/message-streams/{stream}/suppressions/dump", self._dump),
            Route("POST", "/message-streams/{stream}/suppressions", self._add),
            Route("POST", "/message-streams/{stream}/suppressions/delete", self._remove),
        )

    def _locate(self, path: str) -> str:
        return path

    def _admit(self, call: Call, path: str) -> None:  # noqa: ARG002
        if call.headers.get("x-postmark-server-token") != self.dialect.api_key:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "The Server Token you provided is not valid.")

    def _refusal(self, refused: RefusedError) -> Response:
        document = {"ErrorCode": _CODES.get(refused.status, 0), "Message": str(refused)}
        return json_response(refused.status, document, refused.headers)

    def _list_webhooks(self, call: Call) -> Response:
        stream = call.query.get("MessageStream")
        if stream is not None:
            _require_stream(stream)
        found = [one for one in self.webhooks.values() if stream in (None, one["MessageStream"])]
        return json_response(HTTPStatus.OK, {"Webhooks": found})

    def _create_webhook(self, call: Call) -> Response:
        return json_response(HTTPStatus.OK, self._create(read_object(call, _INVALID)))

    def _create(self, given: Mapping[str, Any]) -> dict[str, Any]:
        stream, triggers = given.get("MessageStream", "outbound"), given.get("Triggers", {})
        _require_stream(stream)
        if not is_endpoint(given.get("Url")):
            raise RefusedError(_INVALID, "Url is not valid")
        if not isinstance(triggers, dict) or not triggers.keys() <= set(_TRIGGERS):
            raise RefusedError(_INVALID, f"Triggers may be {', '.join(_TRIGGERS)}")
        off = {"Enabled": False}
        with self._lock:
            webhook = {
                "ID": next(self._ids),
                "Url": given["Url"],
                "MessageStream": stream,
                "HttpAuth": given.get("HttpAuth"),
                "HttpHeaders": given.get("HttpHeaders", []),
                "Triggers": {name: triggers.get(name, off) for name in _TRIGGERS},
            }
            self.webhooks[webhook["ID"]] = webhook
        return webhook

    def _delete_webhook(self, _call: Call, id_: str) -> Response:
        if self.webhooks.pop(int(id_) if id_.isdigit() else -1, None) is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Webhook not found.")
        return json_response(HTTPStatus.OK, {"ErrorCode": 0, "Message": f"Webhook {id_} removed."})

    def _dump(self, _call: Call, stream: str) -> Response:
        _require_stream(stream)
        with self._lock:
            found = [entry.document() for entry in self._lists[stream].values()]
        return json_response(HTTPStatus.OK, {"Suppressions": found})

    def _add(self, call: Call, stream: str) -> Response:
        results = []
        for address in _read_addresses(call, stream):
            if "@" not in address:
                results.append(_result(address, "Failed", "An invalid email address was provided."))
            elif self._complained(address, stream):
                results.append(_result(address, "Failed", _NO_AUTHORITY))
            else:
                self.put(address, "ManualSuppression", "Customer", stream=stream)
                results.append(_result(address, "Suppressed"))
        return json_response(HTTPStatus.OK, {"Suppressions": results})

    def _remove(self, call: Call, stream: str) -> Response:
        results = []
        for address in _read_addresses(call, stream):
            if self._complained(address, stream):
                results.append(_result(address, "Failed", _NO_AUTHORITY))
                continue
            with self._lock:
                self._lists[stream].pop(address.lower(), None)
            results.append(_result(address, "Deleted"))
        return json_response(HTTPStatus.OK, {"Suppressions": results})

    def _complained(self, address: str, stream: str) -> bool:
        with self._lock:
            known = self._lists[stream].get(address.lower())
        return known is not None and known.reason == "SpamComplaint"


_NO_AUTHORITY = "You do not have the required authority to change this suppression."


def _require_stream(stream: object) -> None:
    if stream not in _STREAMS:
        raise RefusedError(_INVALID, "The message stream was not found")


def _read_addresses(call: Call, stream: str) -> list[str]:
    _require_stream(stream)
    given = read_object(call, _INVALID).get("Suppressions")
    if not isinstance(given, list) or not given:
        raise RefusedError(_INVALID, "A proper request body must be provided.")
    if len(given) > _MAX_ENTRIES:
        raise RefusedError(_INVALID, "You cannot provide more than the maximum number of suppressions.")
    return [str(one.get("EmailAddress")) for one in given]


def _result(address: str, status: str, message: str | None = None) -> dict[str, Any]:
    return {"EmailAddress": address, "Status": status, "Message": message}

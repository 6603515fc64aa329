"""The API of SendGrid: event webhooks, and the lists of addresses that it does not send to.

Written from Twilio's OpenAPI documents (tsg_webhooks_v3, tsg_suppressions_v3).
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any

from simulator.deliveries import DeliveryLog
from simulator.providers.api.account import Account
from simulator.providers.api.routes import RefusedError, Route, is_endpoint, json_response, read_number, read_object
from simulator.providers.sendgrid.webhooks import SendGrid
from simulator.serving import Call, Response

_BAD = HTTPStatus.BAD_REQUEST
_LISTS = ("bounces", "blocks", "spam_reports", "invalid_emails", "unsubscribes")
_EVENTS = (
    "group_resubscribe", "group_unsubscribe", "delivered", "spam_report", "bounce", "deferred", "unsubscribe",
    "processed", "open", "click", "dropped",
)  # fmt: skip


class SendGridAccount(Account):
    """An account. All its webhooks are signed with the dialect's key; the real ones have one each."""

    BASE = "/v3"
    dialect: SendGrid

    def __init__(self, dialect: SendGrid) -> None:
        super().__init__(dialect, DeliveryLog(self._webhook_of))
        self.webhooks: dict[str, dict[str, Any]] = {}
        self.signed: set[str] = set()
        self._lists: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in _LISTS}
        self._lock = Lock()

    def enrol(self, url: str) -> str:
        """Return the id of a signed webhook for all events."""
        webhook_id: str = self._create({"url": url, "enabled": True, **dict.fromkeys(_EVENTS, True)})["id"]
        self.signed.add(webhook_id)
        return webhook_id

    def _webhook_of(self, url: str) -> str | None:
        return next((id_ for id_, one in self.webhooks.items() if one["url"] == url), None)

    def put(self, address: str, name: str = "bounces") -> None:
        """Put an address on a list, as SendGrid does after a bounce or complaint."""
        entry = {"email": address, "created": int(datetime.now(UTC).timestamp())}
        if name not in ("spam_reports", "unsubscribes"):
            entry |= {"reason": "550 5.1.1 User unknown", "status": "5.1.1"}
        with self._lock:
            self._lists[name][address.lower()] = entry

    def suppressed(self, name: str) -> set[str]:
        """Return the addresses on a list."""
        with self._lock:
            return {entry["email"] for entry in self._lists[name].values()}

    def _routes(self) -> Sequence[Route]:
        settings = "/user/webhooks/event/settings"
        return (
            Route("GET", f"{settings}/all", self._list_webhooks),
            Route("POST", settings, self._create_webhook),
            Route("PATCH", f"{settings}/signed/{{id_}}", self._sign_webhook),
            Route("PATCH", f"{settings}/{{id_}}", self._change_webhook),
            Route("DELETE", f"{settings}/{{id_}}", self._delete_webhook),
            Route("GET", "/suppression/{name}", self._list),
            Route("DELETE", "/suppression/{name}/{address}", self._remove),
            Route("POST", "/asm/suppressions/global", self._add_global),
            Route("DELETE", "/asm/suppressions/global/{address}", self._remove_global),
        )

    def _locate(self, path: str) -> str:
        return path

    def _admit(self, call: Call, path: str) -> None:  # noqa: ARG002
        if call.headers.get("authorization") != f"Bearer {self.dialect.api_key}":
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "authorization required")

    def _refusal(self, refused: RefusedError) -> Response:
        return json_response(refused.status, {"errors": [{"field": None, "message": str(refused)}]}, refused.headers)

    def _list_webhooks(self, _call: Call) -> Response:
        key = self._public_key()
        shown = [one | ({"public_key": key} if id_ in self.signed else {}) for id_, one in self.webhooks.items()]
        return json_response(HTTPStatus.OK, {"max_allowed": 5, "webhooks": shown or [{}]})

    def _public_key(self) -> str:
        given = self.dialect.credentials()["public_key"]
        return str(given if isinstance(given, str) else given[-1])

    def _create_webhook(self, call: Call) -> Response:
        return json_response(HTTPStatus.CREATED, self._create(read_object(call, _BAD)))

    def _create(self, given: Mapping[str, Any]) -> dict[str, Any]:
        url = given.get("url")
        if not is_endpoint(url):
            raise RefusedError(_BAD, f"'{url}' is not a valid url")
        with self._lock:
            if any(one["url"] == url for one in self.webhooks.values()):
                raise RefusedError(_BAD, f"Webhook at '{url}' already exists. Please provide a unique URL.")
            events = {name: given.get(name, False) for name in _EVENTS}
            webhook = {"enabled": given.get("enabled", False), "url": url, **events, "id": str(uuid.uuid4())}
            self.webhooks[webhook["id"]] = webhook
        return webhook

    def _find(self, id_: str) -> dict[str, Any]:
        if id_ not in self.webhooks:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Invalid id provided.")
        return self.webhooks[id_]

    def _change_webhook(self, call: Call, id_: str) -> Response:
        self._find(id_).update(read_object(call, _BAD))
        return json_response(HTTPStatus.OK, self._find(id_))

    def _sign_webhook(self, call: Call, id_: str) -> Response:
        self._find(id_)
        if read_object(call, _BAD).get("enabled") is True:
            self.signed.add(id_)
        else:
            self.signed.discard(id_)
        key = self._public_key() if id_ in self.signed else ""
        return json_response(HTTPStatus.OK, {"id": id_, "public_key": key})

    def _delete_webhook(self, _call: Call, id_: str) -> Response:
        self._find(id_)
        del self.webhooks[id_]
        return Response(status=HTTPStatus.NO_CONTENT)

    def _list(self, call: Call, name: str) -> Response:
        limit = read_number(call.query, "limit", 500, range(1, 501), _BAD)
        offset = read_number(call.query, "offset", 0, range(1 << 31), _BAD)
        with self._lock:
            found = list(self._named(name).values())
        return json_response(HTTPStatus.OK, found[offset : offset + limit])

    def _named(self, name: str) -> dict[str, dict[str, Any]]:
        if name not in self._lists:
            raise RefusedError(HTTPStatus.NOT_FOUND, "not found")
        return self._lists[name]

    def _remove(self, _call: Call, name: str, address: str) -> Response:
        with self._lock:
            if self._named(name).pop(address.lower(), None) is None:
                raise RefusedError(HTTPStatus.NOT_FOUND, "not found")  # not documented; a client must take both
        return Response(status=HTTPStatus.NO_CONTENT)

    def _add_global(self, call: Call) -> Response:
        given = read_object(call, _BAD).get("recipient_emails")
        if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
            raise RefusedError(_BAD, "recipient_emails must be a list of addresses")
        for address in given:
            self.put(address, "unsubscribes")
        return json_response(HTTPStatus.CREATED, {"recipient_emails": given})

    def _remove_global(self, _call: Call, address: str) -> Response:
        with self._lock:
            self._lists["unsubscribes"].pop(address.lower(), None)
        return Response(status=HTTPStatus.NO_CONTENT)

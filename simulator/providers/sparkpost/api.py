"""The API of SparkPost: event webhooks, and the suppression list of an account.

Written from developers.sparkpost.com ("Webhooks API", "Suppression List API").
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any

from simulator.connection import Exchange
from simulator.deliveries import DeliveryLog
from simulator.providers.api.account import Account, text_of
from simulator.providers.api.routes import RefusedError, Route, is_endpoint, json_response, read_number, read_object
from simulator.providers.sparkpost.webhooks import SparkPost
from simulator.serving import Call, Response

_BAD = HTTPStatus.BAD_REQUEST
_EVENTS = frozenset(
    {
        "injection", "delivery", "delay", "bounce", "out_of_band", "policy_rejection", "generation_failure",
        "generation_rejection", "spam_complaint", "open", "initial_open", "amp_open", "amp_initial_open", "click",
        "amp_click", "list_unsubscribe", "link_unsubscribe", "relay_injection", "relay_rejection", "relay_delivery",
        "relay_tempfail", "relay_permfail",
    }
)  # fmt: skip
_TYPES = ("transactional", "non_transactional")
_PING = b'[{"msys":{}}]'


class SparkPostAccount(Account):
    """An account without subaccounts."""

    BASE = "/api/v1"
    dialect: SparkPost

    def __init__(self, dialect: SparkPost) -> None:
        super().__init__(dialect, DeliveryLog(self._webhook_of))
        self.webhooks: dict[str, dict[str, Any]] = {}
        self._entries: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = Lock()

    def enrol(self, url: str) -> str:
        """Return the id of a webhook for all events. The URL is not tested here."""
        given = self.dialect.credentials()
        pair = {"username": given["username"], "password": given["password"]}
        events = [word for word in _EVENTS if "initial" not in word and "relay" not in word]
        return self._create(
            {"target": url, "events": events, "auth_type": "basic", "auth_credentials": pair}, is_tested=False
        )

    def _webhook_of(self, url: str) -> str | None:
        return next((id_ for id_, one in self.webhooks.items() if one["target"] == url), None)

    def put(self, address: str, source: str = "Bounce Rule", types: Sequence[str] = _TYPES, **more: Any) -> None:
        """Put an address on the list, as SparkPost does after a bounce, a complaint or an unsubscribe."""
        at = datetime.now(UTC).replace(microsecond=0).isoformat()
        with self._lock:
            for type_ in types:
                entry = {"recipient": address, "type": type_, "source": source, "description": "550: 5.1.1"}
                times = {"created": at, "updated": at, type_: True}
                self._entries[address.lower(), type_] = {**entry, **times, **more}

    def suppressed(self, type_: str = "transactional") -> set[str]:
        """Return the addresses that get no mail of this type."""
        with self._lock:
            return {address for address, listed in self._entries if listed == type_}

    def _routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/webhooks", self._list_webhooks),
            Route("POST", "/webhooks", self._create_webhook),
            Route("PUT", "/webhooks/{id_}", self._change_webhook),
            Route("DELETE", "/webhooks/{id_}", self._delete_webhook),
            Route("POST", "/webhooks/{id_}/validate", self._validate),
            Route("GET", "/suppression-list", self._list),
            Route("PUT", "/suppression-list", self._upsert),
            Route("DELETE", "/suppression-list/{address}", self._remove),
        )

    def _locate(self, path: str) -> str:
        return path

    def _admit(self, call: Call, path: str) -> None:  # noqa: ARG002
        if call.headers.get("authorization") != self.dialect.api_key:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "Unauthorized.")

    def _refusal(self, refused: RefusedError) -> Response:
        return json_response(refused.status, {"errors": [{"message": str(refused)}]}, refused.headers)

    def _list_webhooks(self, _call: Call) -> Response:
        shown = [{name: value for name, value in one.items() if name != "auth_credentials"} for one in self._all()]
        return json_response(HTTPStatus.OK, {"results": shown})

    def _all(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self.webhooks.values())

    def _create_webhook(self, call: Call) -> Response:
        id_ = self._create(read_object(call, _BAD), is_tested=True)
        return json_response(HTTPStatus.OK, {"results": {"id": id_, "links": []}})

    def _create(self, given: Mapping[str, Any], *, is_tested: bool) -> str:
        if not given.get("name", "a name") or not is_endpoint(given.get("target")):
            raise RefusedError(_BAD, "target must be a valid URL")
        unknown = set(given.get("events") or ["none"]) - _EVENTS
        if unknown:
            raise RefusedError(_BAD, f"Invalid events: {', '.join(sorted(map(str, unknown)))}")
        if is_tested and not (exchange := self._ping(given["target"])).succeeded:
            raise RefusedError(_BAD, f"POST to target failed: {exchange.status}")
        id_ = str(uuid.uuid4())
        with self._lock:
            self.webhooks[id_] = {"active": True, "name": "", "custom_headers": {}, **given, "id": id_}
        return id_

    def _ping(self, url: str) -> Exchange:
        return self._post(url, _PING)[2]

    def _find(self, id_: str) -> dict[str, Any]:
        if id_ not in self.webhooks:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Webhook not found")
        return self.webhooks[id_]

    def _change_webhook(self, call: Call, id_: str) -> Response:
        self._find(id_).update(read_object(call, _BAD))
        return json_response(HTTPStatus.OK, {"results": {"id": id_}})

    def _delete_webhook(self, _call: Call, id_: str) -> Response:
        self._find(id_)
        with self._lock:
            del self.webhooks[id_]
        return Response(status=HTTPStatus.NO_CONTENT)

    def _validate(self, call: Call, id_: str) -> Response:
        webhook = self._find(id_)
        if not isinstance(read_object(call, _BAD).get("message"), dict):
            raise RefusedError(_BAD, "message is required")
        exchange = self._ping(webhook["target"])
        if not exchange.succeeded:
            raise RefusedError(_BAD, f"Test POST to target URI returned HTTP status code {exchange.status}")
        response: dict[str, Any] = {"status": exchange.status, "headers": {}, "body": text_of(exchange)}
        message = f"Test POST to target URI returned HTTP status code {exchange.status}"
        return json_response(HTTPStatus.OK, {"results": {"msg": message, "response": response}})

    def _list(self, call: Call) -> Response:
        limit = read_number(call.query, "per_page", 1000, range(1, 10_001), _BAD)
        cursor = call.query.get("cursor", "initial")
        if cursor != "initial" and not cursor.isdigit():
            raise RefusedError(_BAD, "cursor is not valid")
        first = 0 if cursor == "initial" else int(cursor)
        with self._lock:
            entries = list(self._entries.values())
        links = []
        if first + limit < len(entries):
            href = f"/api/v1/suppression-list?cursor={first + limit}&per_page={limit}"
            links.append({"href": href, "rel": "next"})
        page = {"results": entries[first : first + limit], "links": links, "total_count": len(entries)}
        return json_response(HTTPStatus.OK, page)

    def _upsert(self, call: Call) -> Response:
        given = read_object(call, _BAD).get("recipients")
        if not isinstance(given, list) or not given or len(given) > 10_000:
            raise RefusedError(_BAD, "recipients must be a list of 1 to 10,000")
        for row in given:
            if row.get("type") not in _TYPES or "@" not in row.get("recipient", ""):
                raise RefusedError(_BAD, "Type must be one of: 'transactional', 'non_transactional'")
        for row in given:
            note = row.get("description")
            self.put(row["recipient"], "Manually Added", [row["type"]], description=note)
        return json_response(HTTPStatus.OK, {"results": {"message": "Suppression List successfully updated"}})

    def _remove(self, _call: Call, address: str) -> Response:
        with self._lock:
            found = [key for key in self._entries if key[0] == address.lower()]
            for key in found:
                del self._entries[key]
        if not found:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Recipient could not be found")
        return Response(status=HTTPStatus.NO_CONTENT)

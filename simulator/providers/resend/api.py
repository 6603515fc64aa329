"""The API of Resend: webhooks, their events, attempts and replays, and the suppression list.

Written from resend.com/docs/api-reference (Webhooks, Suppressions).
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any

from simulator.deliveries import Delivery, DeliveryLog
from simulator.providers.api.account import Account, text_of
from simulator.providers.api.routes import RefusedError, Route, is_endpoint, json_response, read_number, read_object
from simulator.providers.resend.webhooks import Resend
from simulator.serving import Call, Response

_BAD = HTTPStatus.UNPROCESSABLE_ENTITY
_MAX_ENTRIES = 100
_RETRIES = 7


class ResendAccount(Account):
    """An account. All its webhooks are signed with the dialect's secret; the real ones have one each."""

    BASE = "/resend"  # the real one has none, but here one host plays many providers
    dialect: Resend

    def __init__(self, dialect: Resend) -> None:
        super().__init__(dialect, DeliveryLog(self._webhook_of, retries=_RETRIES))
        self.webhooks: dict[str, dict[str, Any]] = {}
        self._suppressions: dict[str, dict[str, Any]] = {}
        self._lock = Lock()

    def enrol(self, url: str) -> str:
        """Return the id of a webhook."""
        return self._create({"endpoint": url, "events": ["email.sent"]})

    def _webhook_of(self, url: str) -> str | None:
        return next((id_ for id_, one in self.webhooks.items() if one["endpoint"] == url), None)

    def put(self, address: str, origin: str = "bounce") -> None:
        """Suppress an address, as Resend does after a bounce or complaint; one that is suppressed stays so."""
        entry = {
            "id": str(uuid.uuid4()),
            "email": address.strip().lower(),
            "origin": origin,
            "source_id": None,
            "created_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.123}+00",
        }
        with self._lock:
            self._suppressions.setdefault(entry["email"] or "", entry)

    def suppressed(self) -> dict[str, str]:
        """Return the suppressed addresses with their origins."""
        with self._lock:
            return {address: entry["origin"] for address, entry in self._suppressions.items()}

    def _routes(self) -> Sequence[Route]:
        event = "/webhooks/{id_}/events/{event}"
        return (
            Route("GET", "/webhooks", self._list_webhooks),
            Route("POST", "/webhooks", self._create_webhook),
            Route("GET", "/webhooks/{id_}", self._get_webhook),
            Route("PATCH", "/webhooks/{id_}", self._change_webhook),
            Route("DELETE", "/webhooks/{id_}", self._delete_webhook),
            Route("GET", "/webhooks/{id_}/events", self._list_events),
            Route("GET", event, self._get_event),
            Route("GET", f"{event}/attempts", self._list_attempts),
            Route("POST", f"{event}/replay", self._replay),
            Route("GET", "/suppressions", self._list_suppressions),
            Route("POST", "/suppressions/batch/add", self._add_suppressions),
            Route("DELETE", "/suppressions/{address}", self._remove_suppression),
        )

    def _locate(self, path: str) -> str:
        return path

    def _admit(self, call: Call, path: str) -> None:  # noqa: ARG002
        if call.headers.get("authorization") != f"Bearer {self.dialect.api_key}":
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "API key is invalid")

    def _refusal(self, refused: RefusedError) -> Response:
        return json_response(refused.status, {"statusCode": refused.status, "message": str(refused)}, refused.headers)

    def _list_webhooks(self, call: Call) -> Response:
        return _page(call, list(self.webhooks.values()))

    def _create_webhook(self, call: Call) -> Response:
        webhook_id = self._create(read_object(call, _BAD))
        answer = {"object": "webhook", "id": webhook_id, "signing_secret": self._secret()}
        return json_response(HTTPStatus.CREATED, answer)

    def _secret(self) -> str:
        return str(self.dialect.credentials()["secrets"][-1])

    def _create(self, given: Mapping[str, Any]) -> str:
        if not is_endpoint(given.get("endpoint")) or not given.get("events"):
            raise RefusedError(_BAD, "endpoint and events are required")
        webhook_id = str(uuid.uuid4())
        with self._lock:
            self.webhooks[webhook_id] = {
                "id": webhook_id,
                "created_at": _time(datetime.now(UTC)),
                "status": "enabled",
                "endpoint": given["endpoint"],
                "events": given["events"],
            }
        return webhook_id

    def _find(self, id_: str) -> dict[str, Any]:
        if id_ not in self.webhooks:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Webhook not found")
        return self.webhooks[id_]

    def _get_webhook(self, _call: Call, id_: str) -> Response:
        answer = {"object": "webhook", **self._find(id_), "signing_secret": self._secret()}
        return json_response(HTTPStatus.OK, answer)

    def _change_webhook(self, call: Call, id_: str) -> Response:
        self._find(id_).update(read_object(call, _BAD))
        return json_response(HTTPStatus.OK, {"object": "webhook", "id": id_})

    def _delete_webhook(self, _call: Call, id_: str) -> Response:
        self._find(id_)
        del self.webhooks[id_]
        return json_response(HTTPStatus.OK, {"object": "webhook", "id": id_, "deleted": True})

    def _attempts(self, id_: str) -> dict[str, list[Delivery]]:
        """Return the attempts of each event that was posted to a webhook; the newest first."""
        self._find(id_)
        found: dict[str, list[Delivery]] = {}
        for delivery in self.log.newest_first():
            if delivery.webhook == id_:
                found.setdefault(delivery.request.headers["svix-id"], []).append(delivery)
        return found

    def _event(self, event_id: str, attempts: Sequence[Delivery]) -> dict[str, Any]:
        first, last = attempts[-1], attempts[0]
        status = "attempting" if self.log.will_retry(last) else "failed"
        return {
            "id": event_id,
            "type": json.loads(first.request.body).get("type"),
            "created_at": _time(first.created_at),
            "status": "success" if any(one.exchange.succeeded for one in attempts) else status,
        }

    def _list_events(self, call: Call, id_: str) -> Response:
        events = [self._event(event_id, attempts) for event_id, attempts in self._attempts(id_).items()]
        return _page(call, sorted(events, key=lambda one: one["created_at"], reverse=True))

    def _find_event(self, id_: str, event: str) -> list[Delivery]:
        attempts = self._attempts(id_).get(event)
        if attempts is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Webhook event not found")
        return attempts

    def _get_event(self, _call: Call, id_: str, event: str) -> Response:
        attempts = self._find_event(id_, event)
        shown = {"next_attempt_at": None, "payload": json.loads(attempts[0].request.body)}
        return json_response(HTTPStatus.OK, {"object": "webhook_event", **self._event(event, attempts), **shown})

    def _list_attempts(self, call: Call, id_: str, event: str) -> Response:
        shown = [
            {
                "id": f"atmpt_{one.number}",
                "http_status_code": one.exchange.status or 0,
                "response": text_of(one.exchange),
                "sent_at": _time(one.created_at),
            }
            for one in self._find_event(id_, event)
        ]
        return _page(call, shown)

    def _replay(self, _call: Call, id_: str, event: str) -> Response:
        original = self._find_event(id_, event)[-1]
        request, began_at, exchange = self._post(self._find(id_)["endpoint"], original.request.body)
        self.log.record(
            url=original.url,
            request=request,
            events=original.events,
            created_at=began_at,
            exchange=exchange,
            repeats=original,
            manual=True,
        )
        return json_response(HTTPStatus.OK, {"object": "webhook_event", "id": event})

    def _list_suppressions(self, call: Call) -> Response:
        with self._lock:
            found = list(self._suppressions.values())
        return _page(call, found)

    def _add_suppressions(self, call: Call) -> Response:
        given = read_object(call, _BAD).get("emails")
        if not isinstance(given, list) or not 1 <= len(given) <= _MAX_ENTRIES:
            raise RefusedError(_BAD, f"emails must be a list of 1 to {_MAX_ENTRIES} addresses")
        for address in given:
            self.put(address, "manual")
        with self._lock:
            added = [{"object": "suppression", "id": self._suppressions[one.strip().lower()]["id"]} for one in given]
        return json_response(HTTPStatus.OK, {"data": added})

    def _remove_suppression(self, _call: Call, address: str) -> Response:
        with self._lock:
            entry = self._suppressions.pop(address.lower(), None)
        if entry is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Suppression not found")
        return json_response(HTTPStatus.OK, {"object": "suppression", "id": entry["id"], "deleted": True})


def _page(call: Call, found: Sequence[Mapping[str, Any]]) -> Response:
    limit = read_number(call.query, "limit", 20, range(1, 101), _BAD)
    ids = [one["id"] for one in found]
    first = ids.index(call.query["after"]) + 1 if call.query.get("after") in ids else 0
    shown = list(found[first : first + limit])
    return json_response(HTTPStatus.OK, {"object": "list", "has_more": first + limit < len(found), "data": shown})


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""The API of Mailgun: the webhooks of a domain, and its bounces, complaints and unsubscribes.

Written from documentation.mailgun.com (Webhooks, Bounces, Complaints, Unsubscribes).
"""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlencode

from simulator.deliveries import DeliveryLog
from simulator.providers.api.account import Account
from simulator.providers.api.routes import RefusedError, Route, is_endpoint, json_response, read_number
from simulator.providers.mailgun.webhooks import Mailgun
from simulator.serving import Call, Response

_BAD = HTTPStatus.BAD_REQUEST
_KINDS = (
    "accepted", "delivered", "opened", "clicked", "unsubscribed", "complained", "temporary_fail", "permanent_fail",
)  # fmt: skip
_LISTS = ("bounces", "complaints", "unsubscribes")
_MAX_URLS = 3
_MAX_ENTRIES = 1000


class MailgunAccount(Account):
    """An account with one domain."""

    BASE = "/mailgun"  # the real one has none, but here one host plays many providers
    dialect: Mailgun

    def __init__(self, dialect: Mailgun) -> None:
        super().__init__(dialect, DeliveryLog(self._webhook_of))
        self.urls: dict[str, list[str]] = {}
        self._lists: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in _LISTS}
        self._lock = Lock()

    def enrol(self, url: str) -> str:
        """Return the URL, for all kinds of events."""
        for kind in _KINDS:
            self.urls.setdefault(kind, []).append(url)
        return url

    def _webhook_of(self, url: str) -> str | None:
        return url if any(url in urls for urls in self.urls.values()) else None

    def put(self, address: str, name: str = "bounces", *, tags: Sequence[str] = ("*",)) -> None:
        """Put an address on a list, as Mailgun does after a bounce or complaint."""
        created_at = format_datetime(datetime.now(UTC)).replace("+0000", "UTC")
        entry: dict[str, Any] = {"address": address, "created_at": created_at}
        if name == "bounces":
            entry |= {"code": "550", "error": "No such mailbox"}
        if name == "unsubscribes":
            entry["tags"] = list(tags)
        with self._lock:
            self._lists[name][address.lower()] = entry

    def suppressed(self, name: str) -> set[str]:
        """Return the addresses on a list."""
        with self._lock:
            return {entry["address"] for entry in self._lists[name].values()}

    def _routes(self) -> Sequence[Route]:
        webhooks = f"/v3/domains/{self.dialect.DOMAIN}/webhooks"
        return (
            Route("GET", webhooks, self._list_webhooks),
            Route("POST", webhooks, self._create_webhook),
            Route("PUT", f"{webhooks}/{{kind}}", self._change_webhook),
            Route("DELETE", f"{webhooks}/{{kind}}", self._delete_webhook),
            Route("GET", f"/v3/{self.dialect.DOMAIN}/{{name}}", self._list),
            Route("POST", f"/v3/{self.dialect.DOMAIN}/{{name}}", self._add),
            Route("DELETE", f"/v3/{self.dialect.DOMAIN}/{{name}}/{{address}}", self._remove),
        )

    def _locate(self, path: str) -> str:
        return path

    def _admit(self, call: Call, path: str) -> None:  # noqa: ARG002
        expected = base64.b64encode(f"api:{self.dialect.api_key}".encode()).decode()
        if call.headers.get("authorization") != f"Basic {expected}":
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "Invalid private key")

    def _refusal(self, refused: RefusedError) -> Response:
        return json_response(refused.status, {"message": str(refused)}, refused.headers)

    def _list_webhooks(self, _call: Call) -> Response:
        shown = {kind: {"urls": self.urls[kind]} if kind in self.urls else None for kind in _KINDS}
        return json_response(HTTPStatus.OK, {"webhooks": shown})

    def _create_webhook(self, call: Call) -> Response:
        form = parse_qsl(call.body.decode())
        kind = next((value for name, value in form if name == "id"), "")
        if kind not in _KINDS:
            raise RefusedError(_BAD, "id must be a type of webhook")
        if kind in self.urls:
            raise RefusedError(_BAD, "Webhook already exists")
        return self._set(kind, form, "Webhook has been created")

    def _change_webhook(self, call: Call, kind: str) -> Response:
        self._require(kind)
        return self._set(kind, parse_qsl(call.body.decode()), "Webhook has been updated")

    def _set(self, kind: str, form: Sequence[tuple[str, str]], message: str) -> Response:
        urls = [value for name, value in form if name == "url"]
        if not urls or len(urls) > _MAX_URLS or not all(map(is_endpoint, urls)):
            raise RefusedError(_BAD, f"url must be given once to {_MAX_URLS} times")
        self.urls[kind] = urls
        return json_response(HTTPStatus.OK, {"message": message, "webhook": {"urls": urls}})

    def _delete_webhook(self, _call: Call, kind: str) -> Response:
        self._require(kind)
        return json_response(HTTPStatus.OK, {"message": "Webhook has been deleted", "webhook": self.urls.pop(kind)})

    def _require(self, kind: str) -> None:
        if kind not in self.urls:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Webhook not found")

    def _list(self, call: Call, name: str) -> Response:
        limit = read_number(call.query, "limit", 100, range(1, _MAX_ENTRIES + 1), _BAD)
        after = call.query.get("address", "")
        with self._lock:
            found = [entry for key, entry in sorted(self._named(name).items()) if key > after][:limit]
        last = found[-1]["address"].lower() if found else after
        query = urlencode({"page": "next", "address": last, "limit": limit})
        url = f"https://api.mailgun.net/v3/{self.dialect.DOMAIN}/{name}?"
        paging = {"first": f"{url}page=first", "next": url + query, "last": f"{url}page=last"}
        return json_response(HTTPStatus.OK, {"items": found, "paging": paging})

    def _named(self, name: str) -> dict[str, dict[str, Any]]:
        if name not in self._lists:
            raise RefusedError(HTTPStatus.NOT_FOUND, "not found")
        return self._lists[name]

    def _add(self, call: Call, name: str) -> Response:
        self._named(name)
        try:
            given = json.loads(call.body)
        except ValueError:
            given = None
        if not isinstance(given, list) or not 1 <= len(given) <= _MAX_ENTRIES:
            raise RefusedError(_BAD, f"the body must be a list of 1 to {_MAX_ENTRIES} records")
        for one in given:
            self.put(one["address"], name, tags=one.get("tags", ["*"]))
        return json_response(HTTPStatus.OK, {"message": f"{len(given)} addresses have been added to the {name} table"})

    def _remove(self, _call: Call, name: str, address: str) -> Response:
        with self._lock:
            if self._named(name).pop(address.lower(), None) is None:
                raise RefusedError(HTTPStatus.NOT_FOUND, f"Address not found in {name} table")
        return json_response(HTTPStatus.OK, {"message": "Address has been removed", "address": address})

"""The HTTP servers of the providers: their public keys, and the APIs that list failed deliveries.

Each dialect is served below `/<slug>/…`, so that one server can play many accounts, and tests can count the requests
to each. The first dialect that knows a path without a slug answers it, as on the real host.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from threading import Lock
from typing import Any, TypeVar

from simulator.providers.api.account import Account
from simulator.providers.api.routes import json_response
from simulator.providers.base import Dialect
from simulator.providers.generic.webhooks import read_mapping
from simulator.providers.registry import open_account
from simulator.serving import Call, Response, Server

_AnAccount = TypeVar("_AnAccount", bound=Account)


class ProviderServer(Server):
    """Plays the providers of these dialects, by slug."""

    def __init__(self, dialects: Mapping[str, Dialect], *, port: int = 0) -> None:
        super().__init__(port=port)
        self.dialects = dict(dialects)
        self._accounts = {slug: open_account(dialect) for slug, dialect in self.dialects.items()}
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    @property
    def requests(self) -> Mapping[str, int]:
        """Return the number of requests per path, without the query."""
        with self._lock:
            return dict(self._counts)

    def account(self, slug: str, kind: type[_AnAccount]) -> _AnAccount:
        """Return the account behind the slug's API. Raises TypeError if it is of another kind."""
        account = self._accounts[slug]
        if not isinstance(account, kind):
            raise TypeError(f"{slug} has no {kind.__name__}")
        return account

    def keys_url(self, slug: str) -> str | None:
        """Return the URL of the dialect's public keys; None if it has none."""
        path = self.dialects[slug].KEYS_PATH
        return f"{self.url}/{slug}{path}" if path else None

    def api_base(self, slug: str) -> str | None:
        """Return what the addresses of the provider's API begin with; None for one that is not played."""
        account = self._accounts[slug]
        return f"{self.url}/{slug}{account.BASE}" if account else None

    def settings(self, slug: str) -> dict[str, Any]:
        """Return the `settings` of a source whose provider is played here."""
        settings: dict[str, Any] = {"keys_url": self.keys_url(slug), "api_base": self.api_base(slug)}
        if self.dialects[slug].NAME == "ark":
            settings["events_without_tenant"] = "accept"  # it plays a tenant's own webhook, too
        if self.dialects[slug].NAME == "generic":
            settings["generic"] = read_mapping()
        return {name: value for name, value in settings.items() if value}

    def answer(self, call: Call) -> Response:
        """Return the keys, or the answer of the account behind the path."""
        with self._lock:
            self._counts[call.path] += 1
        own = [slug for slug in self.dialects if call.path.startswith(f"/{slug}/")]
        path = call.path.removeprefix(f"/{own[0]}") if own else call.path
        for slug in own or self.dialects:
            dialect, account = self.dialects[slug], self._accounts[slug]
            if path == dialect.KEYS_PATH:
                if call.method != "GET":
                    error = {"error": "method not allowed"}
                    return json_response(HTTPStatus.METHOD_NOT_ALLOWED, error, {"Allow": "GET"})
                document = dialect.key_document(call.query)
                if document is None:
                    break
                return Response(status=HTTPStatus.OK, content=document, headers={"Content-Type": "application/json"})
            if account and path.startswith(f"{account.BASE}/"):
                return account.handle(replace(call, path=path.removeprefix(account.BASE)))
        return json_response(HTTPStatus.NOT_FOUND, {"error": "not found"})

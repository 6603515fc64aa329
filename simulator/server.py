"""The HTTP side of the providers: where Tidings fetches public keys, and asks what was sent and not taken.

Each dialect lives below a path of its own, `/<slug>/…`, so that one server can play many accounts and tests
can tell who was asked; a path without a slug is answered by the first dialect that knows it, as on the real
host.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from threading import Lock
from typing import TypeVar

from simulator.providers.api.account import Account
from simulator.providers.api.routes import json_response
from simulator.providers.base import Dialect
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
        """The account behind the slug's API. Raises TypeError if it is none of that kind."""
        account = self._accounts[slug]
        if not isinstance(account, kind):
            raise TypeError(f"{slug} has no {kind.__name__}")
        return account

    def keys_url(self, slug: str) -> str | None:
        """Where the dialect's public keys are served; None for one without."""
        path = self.dialects[slug].KEYS_PATH
        return f"{self.url}/{slug}{path}" if path else None

    def api_base(self, slug: str) -> str | None:
        """What the addresses of the provider's API begin with; None for one that is not played."""
        account = self._accounts[slug]
        return f"{self.url}/{slug}{account.BASE}" if account else None

    def settings(self, slug: str) -> dict[str, str]:
        """The `settings` of a source whose provider is played here."""
        settings = {"keys_url": self.keys_url(slug), "api_base": self.api_base(slug)}
        if self.dialects[slug].NAME == "ark":
            settings["events_without_tenant"] = "accept"  # it plays a tenant's own webhook, too
        return {name: value for name, value in settings.items() if value}

    def answer(self, call: Call) -> Response:
        """The keys, or what the account behind the path answers."""
        with self._lock:
            self._counts[call.path] += 1
        own = [slug for slug in self.dialects if call.path.startswith(f"/{slug}/")]
        prefix = f"/{own[0]}" if own else ""
        inner = replace(call, path=call.path.removeprefix(prefix))
        for slug in own or self.dialects:
            response = self._answer(slug, inner)
            if response:
                return response
        return _NOT_FOUND

    def _answer(self, slug: str, call: Call) -> Response | None:
        dialect, account = self.dialects[slug], self._accounts[slug]
        if call.path == dialect.KEYS_PATH:
            return _keys(dialect, call)
        if account and call.path.startswith(f"{account.BASE}/"):
            return account.handle(replace(call, path=call.path.removeprefix(account.BASE)))
        return None


def _keys(dialect: Dialect, call: Call) -> Response:
    if call.method != "GET":
        error = {"error": "method not allowed"}
        return json_response(HTTPStatus.METHOD_NOT_ALLOWED, error, {"Allow": "GET"})
    document = dialect.key_document(call.query)
    if document is None:
        return _NOT_FOUND
    return Response(status=HTTPStatus.OK, content=document, headers={"Content-Type": "application/json"})


_NOT_FOUND = json_response(HTTPStatus.NOT_FOUND, {"error": "not found"})

"""A client of the Tidings API, for set-up and checks."""

import http.client
import json
import time
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

_MAX_WAITS = 60


class ApiError(Exception):
    """The API did not do what was asked of it."""

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        text = body.decode("utf-8", "replace")[:500]
        super().__init__(f"{method} {path} was answered with {status}: {text}")
        self.status = status


class Api:
    """One keep-alive connection, for one thread. `key` is an API key."""

    def __init__(self, url: str, key: str) -> None:
        address = urlsplit(url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._http = kind(address.hostname or "", address.port, timeout=30)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the decoded answer, None if it is empty. Raises ApiError if it is not 2xx, OSError without one.

        Waits while the key may not ask: checks that do not hold yet are made again, and may ask often.
        """
        content = None if body is None else json.dumps(body).encode()
        for _ in range(_MAX_WAITS):
            try:
                status, answer, wait_seconds = self._exchange(method, path, content)
            except http.client.RemoteDisconnected:  # an idle connection that the server has closed
                status, answer, wait_seconds = self._exchange(method, path, content)
            if status != http.client.TOO_MANY_REQUESTS:
                break
            time.sleep(wait_seconds)
        if not http.client.OK <= status < http.client.MULTIPLE_CHOICES:
            raise ApiError(method, path, status, answer)
        return json.loads(answer) if answer else None

    def _exchange(self, method: str, path: str, content: bytes | None) -> tuple[int, bytes, float]:
        """Return the status, the body, and after how many seconds to ask again."""
        try:
            self._http.request(method, path, content, self._headers)
            response = self._http.getresponse()
            return response.status, response.read(), float(response.headers.get("Retry-After") or 0)
        except (OSError, http.client.HTTPException):
            self._http.close()
            raise

    def items(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """Return all items of a list, over all its pages."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", f"{path}?{urlencode(query)}" if query else path)
            found += page["items"]
            if not page["next_cursor"]:
                return found
            query["cursor"] = page["next_cursor"]

    def put_source(self, slug: str, provider: str, credentials: Any, settings: dict[str, Any]) -> bool:
        """Create the source, or give the one that exists these credentials; whether it was new."""
        given = {"credentials": credentials, "settings": settings}
        try:
            self.call("POST", "/v1/sources", {"slug": slug, "provider": provider, **given})
        except ApiError as error:
            if error.status != http.client.CONFLICT:
                raise
            self.call("PATCH", f"/v1/sources/{quote(slug)}", given)
            return False
        return True

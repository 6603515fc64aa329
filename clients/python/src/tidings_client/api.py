"""Requests to the API."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

_TRY_AGAIN = (429, 502, 503, 504)
_ATTEMPTS = 4
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_MAX_CHECKED = 10_000


class ApiError(Exception):
    """The API refused a request. `problem` is its explanation (RFC 9457), `retry_after` the seconds to wait."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after: float | None) -> None:
        detail = problem.get("detail") or problem.get("title") or "no explanation"
        fields = f" {problem['errors']}" if problem.get("errors") else ""
        super().__init__(f"{status}: {detail}{fields}")
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class Client:
    """The API at a URL such as `http://127.0.0.1:8081`, with a key. `timeout` is in seconds, for each request.

    Every request may be repeated without harm, so those that got no answer, or 429, 502, 503 or 504, are repeated.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, not be {url!r}")
        self.messages = Messages(self)
        self.suppressions = Suppressions(self)
        self.url = url.rstrip("/")
        self._key = key
        self._timeout = timeout

    def diagnose(self, message_id: str) -> dict[str, Any]:
        """Return the diagnosis of a message: `verdict`, `headline`, `findings`, `next_steps`, and the report."""
        found: dict[str, Any] = self.call("GET", f"/v1/messages/{quote(message_id, safe='')}/report")
        return found

    def events(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield events, the newest first; the filters are those of `GET /v1/events`."""
        return self.pages("/v1/events", filters)

    def pages(self, path: str, filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page."""
        query = {name: _text(value) for name, value in filters.items() if value is not None}
        while True:
            page = self.call("GET", f"{path}?{urlencode(query)}" if query else path)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return its document. Raises ApiError, or OSError if there was no answer."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._call_once(method, path, body)
            except ApiError as error:
                if error.status not in _TRY_AGAIN or attempt == _ATTEMPTS:
                    raise
                pause = error.retry_after if error.retry_after is not None else _PAUSE_SECONDS * attempt
            except OSError:
                if attempt == _ATTEMPTS:
                    raise
                pause = _PAUSE_SECONDS * attempt
            time.sleep(min(pause, _LONGEST_PAUSE_SECONDS))
        raise AssertionError("unreachable")

    def _call_once(self, method: str, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            try:
                problem = json.loads(text)
            except ValueError:
                problem = None
            if not isinstance(problem, dict):  # a proxy answered
                problem = {"detail": text[:200].decode(errors="replace")}
            after = error.headers.get("Retry-After", "")
            raise ApiError(error.code, problem, float(after) if after.isdecimal() else None) from None


class Messages:
    """`client.messages`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def search(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield messages, the newest first; the filters are those of `GET /v1/messages`, such as `recipient`."""
        return self._client.pages("/v1/messages", filters)

    def announce(
        self,
        source: str,
        *,
        sender: str,
        recipients: Sequence[str],
        request_id: str | None = None,
        smtp_id: str | None = None,
        submitted_at: datetime | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Announce a send, and return the message. A repeated announcement changes nothing."""
        known = {"request_id": request_id, "smtp_id": smtp_id, **more}
        body = {"source": source, "sender": sender, "recipients": list(recipients)}
        body |= {name: value for name, value in known.items() if value is not None}
        if submitted_at is not None:
            body["submitted_at"] = _text(submitted_at)
        message: dict[str, Any] = self._client.call("POST", "/v1/messages", body)
        return message


class Suppressions:
    """`client.suppressions`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def check(
        self,
        addresses: Sequence[str],
        *,
        type: str | None = None,  # noqa: A002 - the API's word
    ) -> list[dict[str, Any]]:
        """Return for each address, in their order, whether mail of the type may not be sent, and why."""
        results: list[dict[str, Any]] = []
        for first in range(0, len(addresses), _MAX_CHECKED):
            body: dict[str, Any] = {"addresses": list(addresses[first : first + _MAX_CHECKED])}
            if type is not None:
                body["type"] = type
            results += self._client.call("POST", "/v1/suppressions/check", body)["results"]
        return results


def _text(value: Any) -> str:
    """Return a parameter as the API reads it. Raises ValueError for a time without a zone."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value} needs a time zone")
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)

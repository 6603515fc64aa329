"""HTTP calls to a management API, with retries and readable errors."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from shared import backoff, json_text
from shared.http import client as http_client
from shared.http.client import OutboundError, Response, parse_retry_after
from shared.providers.api.base import ApiErrorKind, ProviderApiError, RetryBudget
from shared.providers.api.fields import UNREADABLE

_MAX_BYTES = 16 * 1024 * 1024  # a page of 500 batches is a tenth of a megabyte
_SERVER_ERRORS = range(500, 600)
_GOOD = range(200, 300)
_LONGEST_QUOTE = 200

T = TypeVar("T")
Sign = Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]]
"""Returns the headers of a request: of its method, its URL, its other headers and its body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiClient:
    """A client of one provider's API below the URL `base`, for the source `slug`.

    `key_fields` are the credentials that authenticate a call, as messages name them. `sign` makes the headers of a
    request that is signed. `sleep` and `jitter` (returns 0 to 1) are parameters so that tests do not wait.
    """

    provider: str
    slug: str
    base: str
    headers: Mapping[str, str]
    retries: RetryBudget
    key_fields: Sequence[str] = ("api_key",)
    sign: Sign | None = None
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def request(
        self,
        method: str,
        path: str,
        read: Callable[[bytes], T],
        *,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
        form: Sequence[tuple[str, str]] | None = None,
        repeatable: bool = True,
        timeout_seconds: float | None = None,
    ) -> T:
        """Send a request with a JSON `body` or a `form`, and return the answer, parsed by `read`.

        Retries within the budget where that may help. A request that is not `repeatable` is sent again only if the
        provider certainly did not perform it. Raises ProviderApiError.
        """
        headers = {**self.headers, "Accept": "application/json"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(body)
        elif form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            content = urlencode(form).encode()
        url = f"{self.base}{path}" + (f"?{urlencode(query)}" if query else "")

        def call() -> Response:
            return http_client.call(
                method,
                url,
                headers=self.sign(method, url, headers, content or b"") if self.sign else headers,
                body=content,
                timeout_seconds=timeout_seconds or self.retries.timeout_seconds,
                max_bytes=_MAX_BYTES,
            )

        longest_wait = self.retries.longest_wait_seconds
        for tries in count(1):
            try:
                return self._attempt(f"{method} {path}", call, read)
            except ProviderApiError as error:
                asked = error.after_seconds or 0.0
                may_repeat = error.kind is ApiErrorKind.RATE_LIMITED or (
                    repeatable and error.kind is ApiErrorKind.UNREACHABLE
                )
                if not may_repeat or tries >= self.retries.tries or asked > longest_wait:
                    raise
            delay = min(backoff.PROVIDER_API.delay_seconds(tries), longest_wait)
            if asked:
                self.sleep(max(asked, delay) + self.jitter() * backoff.PROVIDER_API.delay_seconds(1))
            else:
                self.sleep(delay * (0.5 + self.jitter()))
        raise AssertionError

    def delete(self, path: str) -> None:
        """Send a DELETE request. A 404 or a 410 counts as success. Raises ProviderApiError."""
        try:
            self.request("DELETE", path, nothing)
        except ProviderApiError as error:
            if error.kind is not ApiErrorKind.GONE:
                raise

    def _attempt(self, what: str, call: Callable[[], Response], read: Callable[[bytes], T]) -> T:
        try:
            answer = call()
        except OutboundError as error:
            message = f"{self.provider} did not answer {what}: {error}"
            raise ProviderApiError(message, ApiErrorKind.UNREACHABLE) from None
        status = answer.status
        if status in _GOOD:
            try:
                return read(json_text.clean(answer.body))
            except UNREADABLE as error:
                message = f"{self.provider} sent an unreadable answer to {what} ({error}): {quote(answer.body)}"
                raise ProviderApiError(message, ApiErrorKind.UNREACHABLE) from None
        if status in {401, 403}:
            raise ProviderApiError(
                f"{self.provider} rejected the {name_keys(self.key_fields)} of the source {self.slug} ({status}). Set "
                f"a valid one: {write_rotation(self.slug, self.key_fields)}",
                ApiErrorKind.DENIED,
                status=status,
            )
        message = f"{self.provider} answered {what} with {status}: {quote(answer.body)}"
        if status == 429 or status in _SERVER_ERRORS:
            kind = ApiErrorKind.RATE_LIMITED if status == 429 else ApiErrorKind.UNREACHABLE
            asked = parse_retry_after(answer.headers.get("retry-after", ""), datetime.now(UTC))
            after_seconds = None if asked is None else max(0.0, asked)
            raise ProviderApiError(message, kind, status=status, after_seconds=after_seconds)
        kind = ApiErrorKind.GONE if status in {404, 410} else ApiErrorKind.OTHER
        raise ProviderApiError(message, kind, status=status)


def name_keys(fields: Sequence[str]) -> str:
    """Return the fields as a message names them."""
    return " and ".join(f"`{name}`" for name in fields)


def write_rotation(slug: str, fields: Sequence[str]) -> str:
    """Return the command that sets the fields."""
    values = ", ".join(f'"{name}": …' for name in fields)
    return f"tidings sources rotate {slug} --credentials '{{{values}}}'"


def nothing(_body: bytes) -> None:
    """Ignore the body of an answer."""


def quote(body: bytes) -> str:
    """Return the beginning of an answer, without characters that cannot be printed."""
    text = " ".join(body[: 4 * _LONGEST_QUOTE].decode("utf-8", "replace").split())
    printable = "".join(letter for letter in text if letter.isprintable())
    return printable[:_LONGEST_QUOTE] or "(nothing)"

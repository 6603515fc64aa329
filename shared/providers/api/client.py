"""Calling a management API: tried again where that may help, and every failure a sentence."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from shared import backoff
from shared.http import client as http_client
from shared.http.client import OutboundError, Response, parse_retry_after
from shared.providers.api.base import (
    DeniedError,
    GoneError,
    ProviderApiError,
    RateLimitedError,
    RetryBudget,
    UnreachableError,
)
from shared.providers.api.fields import UNREADABLE

_MOST_BYTES = 16 * 1024 * 1024  # a page of 500 batches is a tenth of a megabyte
_SERVER_ERRORS = range(500, 600)
_GOOD = range(200, 300)
_LONGEST_QUOTE = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiClient:
    """Calls one provider's API, which lies below `base`, for the source called `slug`.

    `sleep` and `jitter` (from 0 to 1) are arguments so that a test need not wait.
    """

    provider: str
    slug: str
    base: str
    headers: Mapping[str, str]
    patience: RetryBudget
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def ask(
        self,
        method: str,
        path: str,
        read: Callable[[bytes], T],
        *,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
        repeatable: bool = True,
        timeout_seconds: float | None = None,
    ) -> T:
        """What `read` makes of the answer; asked again, within our patience, where it may be another one then.

        What is not `repeatable` is asked again only if it was surely not done. Raises ManagementError.
        """
        headers = {**self.headers, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = _Request(
            what=f"{method} {path}",
            method=method,
            url=f"{self.base}{path}" + (f"?{urlencode(query)}" if query else ""),
            headers=headers,
            body=None if body is None else msgspec.json.encode(body),
            timeout_seconds=timeout_seconds or self.patience.timeout_seconds,
        )
        for tries in count(1):
            try:
                return self._once(request, read)
            except (RateLimitedError, UnreachableError) as error:
                wait_seconds = self._wait(error, tries, repeatable=repeatable)
                if wait_seconds is None:
                    raise
            self.sleep(wait_seconds)
        raise AssertionError

    def _wait(self, error: ProviderApiError, tries: int, *, repeatable: bool) -> float | None:
        """How long to wait after so many tries; None to leave it at that."""
        asked = error.after_seconds or 0.0
        is_harmless = repeatable or isinstance(error, RateLimitedError)
        if tries >= self.patience.tries or asked > self.patience.longest_wait_seconds or not is_harmless:
            return None
        delay = min(backoff.PROVIDER_API.delay_seconds(tries), self.patience.longest_wait_seconds)
        if asked:
            return max(asked, delay) + self.jitter() * backoff.PROVIDER_API.delay_seconds(1)
        return delay * (0.5 + self.jitter())

    def _once(self, request: "_Request", read: Callable[[bytes], T]) -> T:
        try:
            answer = http_client.call(
                request.method,
                request.url,
                headers=request.headers,
                body=request.body,
                timeout_seconds=request.timeout_seconds,
                max_bytes=_MOST_BYTES,
            )
        except OutboundError as error:
            raise UnreachableError(f"{self.provider} did not answer {request.what}: {error}") from None
        return self._read(request.what, answer, read)

    def _read(self, what: str, answer: Response, read: Callable[[bytes], T]) -> T:
        if answer.status not in _GOOD:
            raise self._failure(what, answer)
        try:
            return read(answer.body)
        except UNREADABLE as error:
            raise UnreachableError(
                f"{self.provider} answered {what} with what cannot be read ({error}): {quote(answer.body)}"
            ) from None

    def _failure(self, what: str, answer: Response) -> ProviderApiError:
        said = f"{self.provider} answered {what} with {answer.status}: {quote(answer.body)}"
        match answer.status:
            case 401 | 403:
                return DeniedError(
                    f"{self.provider} does not take the `api_key` of the source {self.slug} ({answer.status}). Give it "
                    f"one that is valid: tidings sources rotate {self.slug} --credentials '{{\"api_key\": …}}'",
                    status=answer.status,
                )
            case 404 | 410:
                return GoneError(said, status=answer.status)
            case 429:
                return RateLimitedError(said, status=answer.status, after_seconds=_retry_after(answer))
            case status if status in _SERVER_ERRORS:
                return UnreachableError(said, status=status, after_seconds=_retry_after(answer))
        return ProviderApiError(said, status=answer.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    what: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout_seconds: float


def nothing(_body: bytes) -> None:
    """Reads an answer in which nothing is of interest."""


def quote(body: bytes) -> str:
    """The beginning of what was answered, fit to be printed."""
    text = " ".join(body[: 4 * _LONGEST_QUOTE].decode("utf-8", "replace").split())
    printable = "".join(letter for letter in text if letter.isprintable())
    return printable[:_LONGEST_QUOTE] or "(nothing)"


def _retry_after(answer: Response) -> float | None:
    asked = parse_retry_after(answer.headers.get("retry-after", ""), datetime.now(UTC))
    return None if asked is None else max(0.0, asked)

"""Verify quarantined requests again, after fetching the public keys that their signatures name.

The same task confirms subscriptions to topics, for which a provider sends a signed request too.

A separate thread verifies each source, so that a key server that does not answer delays no other source.
"""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from urllib.parse import urlsplit

import msgspec
import structlog

from shared import backoff
from shared.broker import PROCESS_RECEIPTS, VERIFY
from shared.errors import NotFoundError, TidingsError, VerificationError
from shared.http import client as http_client
from shared.http.client import OutboundError
from shared.providers.webhooks.base import WebhookRequest
from shared.receipts import quarantine
from shared.receipts.quarantine import QuarantinedRequest
from shared.receipts.stored_form import dedup_key, dedup_key_expires_at, unseal_headers
from shared.sources import public_keys
from shared.sources import store as sources
from shared.sources.source import Source, open_source
from shared.vocabulary import RefusalReason
from workers.context import WorkerContext

_SOURCES = 8
_BATCH = 1000  # of each source, so that one fetch decides a full quarantine
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_LEASE_SECONDS = 120
_MAX_SECONDS = 5.0
_CLAIM_SECONDS = 0.2
_MAX_ATTEMPTS = 50
_GRACE_DELAY_SECONDS = 30.0
_OK = 200
_REFUSED = frozenset({400, 403, 404, 410})

log = structlog.get_logger()


def verify_due(ctx: WorkerContext) -> None:
    """Verify due requests again. Each is queued, rejected, or postponed."""
    deadline = time.monotonic() + _MAX_SECONDS
    running: dict[Future[None], int] = {}
    with ThreadPoolExecutor(_SOURCES, thread_name_prefix="verification") as pool:
        while time.monotonic() < deadline:
            with ctx.engine.begin() as connection:
                suspects = quarantine.claim(
                    connection,
                    sources=_SOURCES - len(running),
                    limit=_BATCH,
                    max_bytes=_MAX_BATCH_BYTES,
                    lease_seconds=_LEASE_SECONDS,
                    except_sources=running.values(),
                )
            by_source = groupby(sorted(suspects, key=attrgetter("source_id", "id")), key=attrgetter("source_id"))
            for source_id, of_source in by_source:
                batch = _SourceBatch(ctx, source_id, list(of_source), deadline)
                running[pool.submit(batch.verify)] = source_id
            if not running:
                return
            for done in wait(running, timeout=_CLAIM_SECONDS, return_when=FIRST_COMPLETED).done:
                del running[done]
                done.result()
    ctx.notifier.notify(VERIFY)  # another task continues; this one must not block others


class _SourceBatch:
    """Requests of one source, claimed together, the oldest first."""

    def __init__(
        self, ctx: WorkerContext, source_id: int, suspects: Sequence[QuarantinedRequest], deadline: float
    ) -> None:
        self._ctx = ctx
        self._source_id = source_id
        self._suspects = suspects
        self._deadline = deadline
        self._asked: dict[str, OutboundError | None] = {}
        """The error of each fetch, or None, by key id; by an empty text if one document has all keys."""
        self._unasked: list[QuarantinedRequest] = []
        self._rejected: Counter[str] = Counter()

    def verify(self) -> None:
        """Verify the requests, and keep the rejected ones within their limits."""
        try:
            source = self._open_source()
        except TidingsError as error:  # nothing was fetched, so the attempt does not count
            self._postpone(self._suspects, str(error), _GRACE_DELAY_SECONDS, is_counted=False)
            return
        for suspect in self._suspects:
            if time.monotonic() < self._deadline:
                source = self._verify(source, suspect)
            else:
                self._unasked.append(suspect)
        if self._unasked:
            detail = "The key server is asked for few keys at a time; this one's turn comes."
            self._postpone(self._unasked, detail, public_keys.LOOKUP_WINDOW_SECONDS, is_counted=False)
        if self._rejected:
            log.warning("quarantined requests rejected", source=source.slug, **self._rejected)  # one line for all
            limits = self._ctx.settings
            with self._ctx.engine.begin() as connection:
                quarantine.delete_oldest_rejected(
                    connection, self._source_id, max_rows=limits.quarantine_rows, max_bytes=limits.quarantine_bytes
                )

    def _verify(self, source: Source, suspect: QuarantinedRequest) -> Source:
        """Verify one request. Return the source, with the key if one was fetched."""
        try:
            headers = unseal_headers(msgspec.json.decode(suspect.headers), self._ctx.vault)
        except TidingsError as error:
            self._postpone([suspect], str(error), _GRACE_DELAY_SECONDS, is_counted=False)
            return source
        request = WebhookRequest(headers=headers, body=suspect.body)
        try:
            try:
                source.provider.verify(request, source.credentials, suspect.received_at)
            except VerificationError as error:
                if error.key_id is None:
                    raise
                asked = self._ask(source, error.key_id, suspect)
                if asked is None:
                    self._unasked.append(suspect)
                    return source
                source = asked
                source.provider.verify(request, source.credentials, suspect.received_at)
            if (url := source.provider.confirmation_url(request, source.settings)) is not None:
                _confirm(url)
        except VerificationError as error:
            self._fail(source, suspect, error)
        except NotFoundError as error:
            self._reject(suspect, RefusalReason.UNKNOWN_KEY, str(error))
        except OutboundError as error:
            self._retry(suspect, str(error))
        else:
            self._admit(source, suspect, request)
        return source

    def _ask(self, source: Source, key_id: str, suspect: QuarantinedRequest) -> Source | None:
        """Fetch a key, unless that was tried already. Return the source with it; None if the fetch must wait.

        One fetch of a key set decides all key ids. Raises OutboundError and NotFoundError.
        """
        document = "" if public_keys.is_set(source) else key_id
        if document not in self._asked:
            is_silent = any(error is not None and error.partial is None for error in self._asked.values())
            if is_silent or not self._ctx.key_servers.may_ask(source.id, is_new=suspect.attempts == 1):
                return None
            try:
                found = public_keys.fetch(source, key_id)
            except OutboundError as error:
                self._asked[document] = error
                if error.partial is None:
                    self._ctx.key_servers.fail(source.id, backoff.KEY_LOOKUPS.delay_seconds(suspect.attempts))
            else:
                self._asked[document] = None
                if found:
                    with self._ctx.engine_sync_commit.begin() as connection:
                        sources.add_keys(connection, source.id, found)
                    log.info("public keys fetched", source=source.slug, key_ids=list(found))
                    source = self._open_source()
        if (failure := self._asked[document]) is not None:
            raise failure
        return source

    def _admit(self, source: Source, suspect: QuarantinedRequest, request: WebhookRequest) -> None:
        with self._ctx.engine_sync_commit.begin() as connection:
            is_queued = quarantine.admit(
                connection,
                suspect.id,
                key=dedup_key(source, request),
                key_expires_at=dedup_key_expires_at(source, suspect.received_at),
                received_at=suspect.received_at,
            )
        if is_queued:
            self._ctx.notifier.notify(PROCESS_RECEIPTS)

    def _fail(self, source: Source, suspect: QuarantinedRequest, error: VerificationError) -> None:
        # An operator may correct the credentials until `quarantine_until`. After it, some attempts remain.
        until = source.settings.quarantine_until
        if (
            until is not None
            and suspect.received_at < until
            and (datetime.now(UTC) < until or suspect.attempts < _MAX_ATTEMPTS)
        ):
            self._postpone([suspect], str(error), _GRACE_DELAY_SECONDS)
        else:
            self._reject(suspect, error.reason, str(error))

    def _retry(self, suspect: QuarantinedRequest, detail: str) -> None:
        if suspect.attempts >= _MAX_ATTEMPTS:
            detail = f"Gave up after {suspect.attempts} attempts: {detail}"
            self._reject(suspect, RefusalReason.UNKNOWN_KEY, detail)
        else:
            self._postpone([suspect], detail, backoff.KEY_LOOKUPS.delay_seconds(suspect.attempts))

    def _reject(self, suspect: QuarantinedRequest, reason: str, detail: str) -> None:
        self._rejected[reason] += 1
        with self._ctx.engine.begin() as connection:
            quarantine.reject(connection, suspect.id, reason=reason, detail=detail)

    def _postpone(
        self, suspects: Sequence[QuarantinedRequest], detail: str, delay_seconds: float, *, is_counted: bool = True
    ) -> None:
        with self._ctx.engine.begin() as connection:
            quarantine.postpone(
                connection,
                [suspect.id for suspect in suspects],
                detail=detail,
                delay_seconds=delay_seconds,
                is_counted=is_counted,
            )

    def _open_source(self) -> Source:
        with self._ctx.engine.connect() as connection:
            return open_source(sources.by_ids(connection, [self._source_id])[0], self._ctx.vault)


def _confirm(url: str) -> None:
    """Fetch the URL that confirms a subscription. Raises VerificationError if that is refused, and OutboundError."""
    answer = http_client.get(url)
    if answer.status == _OK:
        log.info("subscription confirmed", host=urlsplit(url).hostname)
        return
    if answer.status in _REFUSED:
        sentence = f"The provider refused to confirm the subscription ({answer.status}); ask it for a new confirmation"
        raise VerificationError(RefusalReason.UNCONFIRMED, sentence)
    failure = OutboundError(f"The confirmation of the subscription was answered with {answer.status}")
    failure.partial = answer
    raise failure

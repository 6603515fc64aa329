"""Take the messages of sources from their queues: receive, store and commit, and only then delete.

A process that dies leaves the messages in the queue. They become visible again, and those that were stored already are
duplicates. A separate thread polls each queue, so that one that does not answer delays no other source.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from shared import backoff, ids
from shared.broker import PROCESS_RECEIPTS, PULL, VERIFY
from shared.counters.store import RECEIVED
from shared.errors import TidingsError, VerificationError, first_line
from shared.postgres import partitions
from shared.postgres.engine import is_partition_missing
from shared.providers.api.base import ProviderApiError
from shared.providers.api.sqs import Message, SqsClient
from shared.providers.webhooks.base import PULLED, QueueSettings, WebhookRequest
from shared.receipts import quarantine, stored_form
from shared.receipts import store as receipts
from shared.receipts.store import Receipt, Refusal
from shared.sources import queues
from shared.sources import store as source_store
from shared.sources.source import Source
from shared.vocabulary import RefusalReason
from workers.context import ConcurrencyLimit, WorkerContext

WAIT_SECONDS: Final = 20
"""How long SQS waits for the first message; the longest that it allows, because every call costs money."""
VISIBILITY_SECONDS: Final = 60
_MAX_QUEUES: Final = 16
_MAX_SECONDS: Final = 30.0
_CLAIM_SECONDS: Final = 1.0
_LEASE_SECONDS: Final = 60.0
_ID: Final = "sqs-message-id"
_STATUS: Final[Mapping[str, int]] = {
    RefusalReason.TOO_LARGE: 413,
    RefusalReason.QUARANTINE_FULL: 503,
    RefusalReason.UNAVAILABLE: 503,
}
"""What the receiver answers; for all other reasons it is the provider's code."""
_PULLING = ConcurrencyLimit(1)

log = structlog.get_logger()
stopping = threading.Event()
"""Set when this process stops: calls end, and no more messages are received."""


def pull_due(ctx: WorkerContext, *, max_seconds: float = _MAX_SECONDS, wait_seconds: int = WAIT_SECONDS) -> None:
    """Poll the queues that are due, until the time is up; the next task continues. One thread of a process does so."""
    with _PULLING.try_acquire() as is_acquired:
        if is_acquired and _pull(ctx, time.monotonic() + max_seconds, wait_seconds):
            ctx.notifier.notify(PULL)


def _pull(ctx: WorkerContext, deadline: float, wait_seconds: int) -> bool:
    """Poll the due queues until the deadline. Return whether the next task must continue."""
    running: dict[Future[None], int] = {}
    with ThreadPoolExecutor(_MAX_QUEUES, thread_name_prefix="queue") as pool:
        while time.monotonic() < deadline and not stopping.is_set():
            with ctx.engine.begin() as connection:
                limit = _MAX_QUEUES - len(running)
                due = queues.claim_due(connection, limit=limit, lease_seconds=_LEASE_SECONDS)
            for source_id in set(due) - set(running.values()):  # a lease may have run out
                running[pool.submit(_poll, ctx, source_id, deadline, wait_seconds)] = source_id
            if not running:
                return False
            for done in wait(running, timeout=_CLAIM_SECONDS, return_when=FIRST_COMPLETED).done:
                del running[done]
                done.result()
        for one in running:
            one.result()
    return not stopping.is_set()


def _poll(ctx: WorkerContext, source_id: int, deadline: float, wait_seconds: int) -> None:
    """Poll a queue until the time is up, the queue fails, or its source no longer has it."""
    try:
        source = _find_source(ctx, source_id)
        if source is None or source.settings.queue is None:
            return
        client = SqsClient(source.slug, source.settings.queue, source.credentials.access_key, stopping.is_set)
        try:
            while time.monotonic() < deadline and not stopping.is_set():
                messages = client.receive(wait_seconds=wait_seconds, visibility_seconds=VISIBILITY_SECONDS)
                # It may have changed while the call waited.
                source = _find_source(ctx, source_id, client.queue)
                if source is None:
                    client.hide({message.receipt_handle: 0 for message in messages})
                    return
                _take(ctx, source, client, messages)
        except ProviderApiError as error:
            if not stopping.is_set():
                _record_failure(ctx, source_id, error)
                return
        finally:
            client.close()
        with ctx.engine.begin() as connection:
            queues.postpone(connection, source_id, 0.0)
    except SQLAlchemyError as error:  # what was not committed becomes visible again
        log.warning("the messages of a queue could not be stored", source_id=source_id, error=first_line(error))


def _find_source(ctx: WorkerContext, source_id: int, queue: QueueSettings | None = None) -> Source | None:
    """Return a source as it is now; None if it was deleted, cannot be used, or no longer has this queue, or any."""
    with ctx.engine.begin() as connection:
        version = source_store.versions(connection).get(source_id)
        if version is None:
            return None
        source = ctx.source_cache.of(connection, {source_id: version})[source_id]
    if isinstance(source, TidingsError):
        _record_failure(ctx, source_id, source)
        return None
    return source if source.settings.queue is not None and queue in (None, source.settings.queue) else None


def _record_failure(ctx: WorkerContext, source_id: int, error: TidingsError) -> None:
    with ctx.engine.begin() as connection:
        failures = queues.record_failure(connection, source_id, str(error))
        queues.postpone(connection, source_id, backoff.QUEUE_POLLS.delay_seconds(failures))
    log.warning("a queue could not be polled", source_id=source_id, failures=failures, error=str(error))


def _take(ctx: WorkerContext, source: Source, client: SqsClient, messages: Sequence[Message]) -> None:
    """Store messages, commit, and delete them. Those that were refused stay in the queue, invisible for a time."""
    stored = refused = 0
    if messages:
        stored, refusals = _store(ctx, source, messages, datetime.now(UTC))
        refused = len(refusals)
        client.delete([message for message in messages if message.receipt_handle not in refusals])
        try:
            client.hide(refusals)
        except ProviderApiError as error:  # they become visible sooner
            log.warning("messages could not be hidden", source=source.slug, error=str(error))
    with ctx.engine.begin() as connection:
        queues.record_poll(connection, source.id, stored=stored, refused=refused, lease_seconds=_LEASE_SECONDS)


def _store(
    ctx: WorkerContext, source: Source, messages: Sequence[Message], now: datetime
) -> tuple[int, Mapping[str, int]]:
    """Store messages as the receiver stores requests, and commit.

    Returns the number of new receipts, and for each message that was refused its handle and the seconds to hide it.
    """
    accepted: dict[str, Receipt] = {}  # two messages may be the same notification
    unverified: list[tuple[Message, Receipt, VerificationError]] = []
    refused: list[tuple[Message, VerificationError]] = []
    for message in messages:
        request = WebhookRequest(
            headers={PULLED: message.queued_at(now).isoformat(), _ID: message.message_id},
            body=message.body.encode("utf-8", "replace"),
        )
        try:
            suspicion = _verify(ctx, source, request, now)
            receipt = stored_form.make_receipt(source, request, now, vault=ctx.vault, unverified=suspicion)
        except VerificationError as error:
            refused.append((message, error))
        except Exception as error:  # a bug of the adapter must not delay the other messages
            log.exception("a message could not be verified", source=source.slug, message=message.message_id)
            sentence = f"The adapter failed: {type(error).__name__}: {error}"
            refused.append((message, VerificationError(RefusalReason.UNAVAILABLE, sentence)))
        else:
            if suspicion is None:
                accepted.setdefault(receipt.key, receipt)
            else:
                unverified.append((message, receipt, suspicion))
    try:
        new, quarantined = _commit(ctx, source, list(accepted.values()), unverified, refused, now)
    except DBAPIError as error:
        if isinstance(error, OperationalError | InterfaceError):
            raise
        return _store_one_by_one(ctx, source, messages, now, error)
    ctx.observations.count_by_minute(RECEIVED, {(source.id, ""): new + quarantined})
    if new:
        ctx.notifier.notify(PROCESS_RECEIPTS)
    if quarantined:
        ctx.notifier.notify(VERIFY)
    return new + quarantined, {message.receipt_handle: _hide_seconds(message) for message, _ in refused}


def _commit(
    ctx: WorkerContext,
    source: Source,
    accepted: Sequence[Receipt],
    unverified: Sequence[tuple[Message, Receipt, VerificationError]],
    refused: list[tuple[Message, VerificationError]],
    now: datetime,
) -> tuple[int, int]:
    """Store receipts and refusals. Messages for which the quarantine has no room are added to `refused`.

    Returns how many receipts are new, and how many of those in quarantine.
    """
    quarantined, limits = 0, ctx.settings
    with ctx.engine_sync_commit.begin() as connection:
        new, _, _ = receipts.accept(connection, accepted) if accepted else ((), {}, set())
        for message, receipt, suspicion in unverified:
            is_new = quarantine.add(
                connection,
                receipt,
                suspicion,
                max_rows=limits.quarantine_rows,
                max_bytes=limits.quarantine_bytes,
            )
            if is_new is None:
                refused.append((message, VerificationError(RefusalReason.QUARANTINE_FULL, str(suspicion))))
            quarantined += is_new is True
        _record_refusals(connection, source, refused, now)
    return len(new), quarantined


def _verify(ctx: WorkerContext, source: Source, request: WebhookRequest, now: datetime) -> VerificationError | None:
    """Return why a message goes to quarantine; None if it is authentic. Raises VerificationError if it is refused."""
    if len(request.body) > ctx.settings.max_body_bytes:
        sentence = f"The message has {len(request.body)} bytes, more than TIDINGS_MAX_BODY_BYTES"
        raise VerificationError(RefusalReason.TOO_LARGE, sentence)
    try:
        source.provider.verify(request, source.credentials, now)
    except VerificationError as error:
        if quarantine.is_for(source, error, now):
            return error
        raise
    return quarantine.find_confirmation(source, request)


def _store_one_by_one(
    ctx: WorkerContext, source: Source, messages: Sequence[Message], now: datetime, error: DBAPIError
) -> tuple[int, Mapping[str, int]]:
    """Store messages of which PostgreSQL refused one. That one is refused, and the others are stored."""
    if is_partition_missing(error):
        with ctx.engine_sync_commit.begin() as connection:
            partitions.create_missing(connection)
    elif len(messages) == 1:
        sentence = f"PostgreSQL does not store the message: {first_line(error)}"
        with ctx.engine_sync_commit.begin() as connection:
            cause = VerificationError(RefusalReason.UNAVAILABLE, sentence)
            _record_refusals(connection, source, [(messages[0], cause)], now)
        log.warning("a message could not be stored", source=source.slug, error=first_line(error))
        return 0, {messages[0].receipt_handle: _hide_seconds(messages[0])}
    outcomes = [_store(ctx, source, [message], now) for message in messages]
    return sum(stored for stored, _ in outcomes), {
        handle: seconds for _, refused in outcomes for handle, seconds in refused.items()
    }


def _record_refusals(
    connection: Connection, source: Source, refused: Sequence[tuple[Message, VerificationError]], now: datetime
) -> None:
    """Store the refusals, one row for each reason: a message is refused again and again until somebody acts."""
    by_reason: dict[str, list[tuple[Message, VerificationError]]] = {}
    for message, error in refused:
        by_reason.setdefault(error.reason, []).append((message, error))
    rows = [
        Refusal(
            id=ids.receipt_id(now),
            source=source.slug,
            refused_at=now,
            status_code=_STATUS.get(reason, source.provider.status_codes.bad_signature),
            reason=reason,
            detail=str(same[0][1]).replace("\0", ""),
            remote_ip=None,
            headers=msgspec.json.encode({_ID: same[0][0].message_id}).decode(),
            bytes=len(same[0][0].body),
            count=len(same),
        )
        for reason, same in by_reason.items()
    ]
    if rows:
        receipts.record_refusals(connection, rows)


def _hide_seconds(message: Message) -> int:
    return int(backoff.QUEUE_MESSAGES.delay_seconds(message.deliveries))

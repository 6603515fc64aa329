"""Verifying what receivers kept apart, once the key that its signature names has been fetched."""

import time
from datetime import UTC, datetime

import msgspec
import structlog

from shared import backoff
from shared.broker import VERIFY
from shared.errors import TidingsError, VerificationError
from shared.http.client import OutboundError
from shared.providers.webhooks.base import Request
from shared.receipts import dedup, headers, quarantine
from shared.receipts.quarantine import Suspect
from shared.sources import public_keys
from shared.sources import store as sources
from shared.sources.public_keys import NoSuchKeyError
from shared.sources.source import Source, open_source
from shared.vocabulary import RefusalReason
from workers.context import WorkerContext

_BATCH = 50
_LEASE_SECONDS = 120
_LONGEST_RUN_SECONDS = 5.0
_MOST_FETCHES_PER_RUN = 20  # so that a flood of invented key ids costs the provider's key server little
_MOST_ATTEMPTS = 50
_UNTIL_MENDED_SECONDS = 30.0

log = structlog.get_logger()


def verify(ctx: WorkerContext) -> None:
    """Look at all that is due: admit it to the queue, reject it, or come back to it."""
    fetched: dict[tuple[int, str], OutboundError | None] = {}
    until = time.monotonic() + _LONGEST_RUN_SECONDS
    while time.monotonic() < until:
        with ctx.engine.begin() as connection:
            suspects = quarantine.claim(connection, limit=_BATCH, lease_seconds=_LEASE_SECONDS)
        admitted = [_decide(ctx, suspect, fetched) for suspect in suspects]
        if any(admitted):
            ctx.notifier.notify()
        if len(suspects) < _BATCH:
            return
    ctx.notifier.notify(VERIFY)  # it is another task's turn


def _decide(ctx: WorkerContext, suspect: Suspect, fetched: dict[tuple[int, str], OutboundError | None]) -> bool:
    try:
        source = _source(ctx, suspect.source_id)
        request = Request(headers=headers.unsealed(msgspec.json.decode(suspect.headers), ctx.vault), body=suspect.body)
    except TidingsError as error:  # of this source only: the others' requests must not wait for its mending
        _come_back(ctx, suspect, str(error))
        return False
    try:
        source = _verified(ctx, source, request, suspect, fetched)
    except VerificationError as error:
        _doubt(ctx, source, suspect, error)
        return False
    except NoSuchKeyError as error:
        _reject(ctx, suspect, RefusalReason.UNKNOWN_KEY, str(error))
        return False
    except OutboundError as error:
        _come_back(ctx, suspect, str(error))
        return False
    with ctx.engine_sync_commit.begin() as connection:
        return quarantine.admit(
            connection,
            suspect.id,
            key=dedup.key(source, request),
            key_expires_at=dedup.expires_at(source, suspect.received_at),
            received_at=suspect.received_at,
        )


def _verified(
    ctx: WorkerContext,
    source: Source,
    request: Request,
    suspect: Suspect,
    fetched: dict[tuple[int, str], OutboundError | None],
) -> Source:
    """The source by whose keys the request is genuine. Raises VerificationError, or OutboundError."""
    try:
        source.provider.verify(request, source.credentials, suspect.received_at)
    except VerificationError as error:
        if error.key_id is None:
            raise
        source = _with_key(ctx, source, error.key_id, fetched)
        source.provider.verify(request, source.credentials, suspect.received_at)
    return source


def _with_key(
    ctx: WorkerContext, source: Source, key_id: str, fetched: dict[tuple[int, str], OutboundError | None]
) -> Source:
    """The source with that key added to it. Each key is asked for once in a run."""
    asked = (source.id, key_id)
    if asked not in fetched:
        if len(fetched) >= _MOST_FETCHES_PER_RUN:
            raise OutboundError("many unknown keys are waiting to be fetched; this one's turn comes")
        try:
            found = public_keys.fetch(source, key_id)
        except OutboundError as error:
            fetched[asked] = error
        else:
            fetched[asked] = None
            with ctx.engine_sync_commit.begin() as connection:
                sources.add_keys(connection, source.id, {key_id: found[key_id]})
            log.info("a key was fetched", source=source.slug, key_id=key_id)
    if (failure := fetched[asked]) is not None:
        raise failure
    return _source(ctx, source.id)


def _source(ctx: WorkerContext, source_id: int) -> Source:
    with ctx.engine.connect() as connection:
        return open_source(sources.by_ids(connection, [source_id])[0], ctx.vault)


def _doubt(ctx: WorkerContext, source: Source, suspect: Suspect, error: VerificationError) -> None:
    """Not genuine by the credentials we hold. While these are being mended it may still become so."""
    if _may_be_mended(source.settings.quarantine_until, suspect):
        with ctx.engine.begin() as connection:
            quarantine.postpone(connection, suspect.id, detail=str(error), delay_seconds=_UNTIL_MENDED_SECONDS)
    else:
        _reject(ctx, suspect, error.reason, str(error))


def _may_be_mended(until: datetime | None, suspect: Suspect) -> bool:
    """What came in the grace period waits until that is over, and some attempts longer."""
    if until is None or suspect.received_at >= until:
        return False
    return datetime.now(UTC) < until or suspect.attempts < _MOST_ATTEMPTS


def _reject(ctx: WorkerContext, suspect: Suspect, reason: str, detail: str) -> None:
    log.warning("a quarantined request is rejected", receipt=str(suspect.id), reason=reason, detail=detail)
    with ctx.engine.begin() as connection:
        quarantine.reject(connection, suspect.id, reason=reason, detail=detail)


def _come_back(ctx: WorkerContext, suspect: Suspect, detail: str) -> None:
    if suspect.attempts >= _MOST_ATTEMPTS:
        _reject(ctx, suspect, RefusalReason.UNKNOWN_KEY, f"given up: {detail}")
        return
    delay = backoff.KEY_LOOKUPS.delay_seconds(suspect.attempts)
    with ctx.engine.begin() as connection:
        quarantine.postpone(connection, suspect.id, detail=detail, delay_seconds=delay)

"""Verify quarantined requests again, after fetching the public keys that their signatures name."""

import time
from datetime import UTC, datetime

import msgspec
import structlog

from shared import backoff
from shared.broker import PROCESS_RECEIPTS, VERIFY
from shared.errors import NotFoundError, TidingsError, VerificationError
from shared.http.client import OutboundError
from shared.providers.webhooks.base import Request
from shared.receipts import quarantine
from shared.receipts.quarantine import QuarantinedRequest
from shared.receipts.stored_form import dedup_key, dedup_key_expires_at, unseal_headers
from shared.sources import public_keys
from shared.sources import store as sources
from shared.sources.source import Source, open_source
from shared.vocabulary import RefusalReason
from workers.context import WorkerContext

_BATCH = 50
_LEASE_SECONDS = 120
_MAX_SECONDS = 5.0
_MAX_FETCHES_PER_RUN = 20  # limits the load on the provider's key server from invented key ids
_MAX_ATTEMPTS = 50
_GRACE_DELAY_SECONDS = 30.0

_Fetched = dict[tuple[int, str], NotFoundError | OutboundError | None]
"""The keys that this run has tried to fetch, by source and key id; the error if that failed."""

log = structlog.get_logger()


def verify_due(ctx: WorkerContext) -> None:
    """Verify due requests again. Each is queued, rejected, or postponed."""
    fetched: _Fetched = {}
    deadline = time.monotonic() + _MAX_SECONDS
    while time.monotonic() < deadline:
        with ctx.engine.begin() as connection:
            suspects = quarantine.claim(connection, limit=_BATCH, lease_seconds=_LEASE_SECONDS)
        queued = [_verify(ctx, suspect, fetched) for suspect in suspects]
        if any(queued):
            ctx.notifier.notify(PROCESS_RECEIPTS)
        if len(suspects) < _BATCH:
            return
    ctx.notifier.notify(VERIFY)  # another task continues; this one must not block others


def _verify(ctx: WorkerContext, suspect: QuarantinedRequest, fetched: _Fetched) -> bool:
    """Verify one request again; return whether it was queued."""
    try:
        source = _open_source(ctx, suspect.source_id)
        request = Request(headers=unseal_headers(msgspec.json.decode(suspect.headers), ctx.vault), body=suspect.body)
    except TidingsError as error:  # must not delay the requests of other sources
        _retry(ctx, suspect, str(error))
        return False
    try:
        try:
            source.provider.verify(request, source.credentials, suspect.received_at)
        except VerificationError as error:
            if error.key_id is None:
                raise
            source = _fetch_key(ctx, source, error.key_id, fetched)
            source.provider.verify(request, source.credentials, suspect.received_at)
    except VerificationError as error:
        # An operator may correct the credentials until `quarantine_until`. After it, some attempts remain.
        until = source.settings.quarantine_until
        if (
            until is not None
            and suspect.received_at < until
            and (datetime.now(UTC) < until or suspect.attempts < _MAX_ATTEMPTS)
        ):
            with ctx.engine.begin() as connection:
                quarantine.postpone(connection, suspect.id, detail=str(error), delay_seconds=_GRACE_DELAY_SECONDS)
        else:
            _reject(ctx, suspect, error.reason, str(error))
        return False
    except NotFoundError as error:
        _reject(ctx, suspect, RefusalReason.UNKNOWN_KEY, str(error))
        return False
    except OutboundError as error:
        _retry(ctx, suspect, str(error))
        return False
    with ctx.engine_sync_commit.begin() as connection:
        return quarantine.admit(
            connection,
            suspect.id,
            key=dedup_key(source, request),
            key_expires_at=dedup_key_expires_at(source, suspect.received_at),
            received_at=suspect.received_at,
        )


def _fetch_key(ctx: WorkerContext, source: Source, key_id: str, fetched: _Fetched) -> Source:
    """Return the source with this key added, fetched once in a run. Raises NotFoundError or OutboundError."""
    asked = (source.id, key_id)
    if asked not in fetched:
        if len(fetched) >= _MAX_FETCHES_PER_RUN:
            raise OutboundError("Too many unknown keys for one run; a later run fetches this one.")
        try:
            found = public_keys.fetch(source, key_id)
        except (NotFoundError, OutboundError) as error:
            fetched[asked] = error
        else:
            fetched[asked] = None
            with ctx.engine_sync_commit.begin() as connection:
                sources.add_keys(connection, source.id, {key_id: found[key_id]})
            log.info("public key fetched", source=source.slug, key_id=key_id)
    if (failure := fetched[asked]) is not None:
        raise failure
    return _open_source(ctx, source.id)


def _open_source(ctx: WorkerContext, source_id: int) -> Source:
    with ctx.engine.connect() as connection:
        return open_source(sources.by_ids(connection, [source_id])[0], ctx.vault)


def _reject(ctx: WorkerContext, suspect: QuarantinedRequest, reason: str, detail: str) -> None:
    log.warning("quarantined request rejected", receipt=str(suspect.id), reason=reason, detail=detail)
    with ctx.engine.begin() as connection:
        quarantine.reject(connection, suspect.id, reason=reason, detail=detail)


def _retry(ctx: WorkerContext, suspect: QuarantinedRequest, detail: str) -> None:
    if suspect.attempts >= _MAX_ATTEMPTS:
        _reject(ctx, suspect, RefusalReason.UNKNOWN_KEY, f"Gave up after {suspect.attempts} attempts: {detail}")
        return
    with ctx.engine.begin() as connection:
        delay = backoff.KEY_LOOKUPS.delay_seconds(suspect.attempts)
        quarantine.postpone(connection, suspect.id, detail=detail, delay_seconds=delay)

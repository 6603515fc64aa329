"""Verify, keep the bytes, ring, answer."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

from receiver import arrival, metrics
from receiver.bodies import Bodies
from receiver.directory import Directory
from receiver.refusals import RefusalBook
from receiver.refused import Refused, answer
from receiver.writer import Kept, Quarantine, QuarantineFullError, StorageUnavailableError, Writer
from shared import ids
from shared.asgi import gateway
from shared.asgi.gateway import Answer
from shared.asgi.protocol import Receive, Scope
from shared.encryption import Vault
from shared.errors import VerificationError
from shared.providers.webhooks.base import Request, StatusCodes
from shared.receipts.refusals import Refusal
from shared.receipts.store import Parking, Receipt
from shared.settings import Settings
from shared.sources.source import Source
from shared.vocabulary import ReceiptState, RefusalReason

_TRUSTED_AGE_SECONDS = 0.25
_LARGE_BYTES = 64 * 1024

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What answers providers, with everything it needs; on the event loop.

    `writer` writes what is genuine, `quarantine` what may be. `threads` do what takes long with a large body, so that
    nobody else waits for it.
    """

    settings: Settings
    vault: Vault
    directory: Directory
    writer: Writer
    quarantine: Writer
    refusals: RefusalBook
    bodies: Bodies
    threads: Executor

    async def receive(self, slug: str, scope: Scope, receive: Receive) -> Answer:
        """Answer a provider's POST: 200 when its bytes are committed, its own code for every failure otherwise."""
        headers = arrival.headers(scope)
        sender_ip = arrival.remote_ip(scope, headers, self.settings.proxies)
        try:
            source = await self._source(slug)
            codes = source.provider.STATUS_CODES
            arrival.check_encoding(headers, codes)
            with self.bodies.one(codes, self.settings.max_body_bytes) as body:
                read = await body.read(receive, arrival.announced_length(headers))
                kept, outcome = await self._admit(source, Request(headers=headers, body=read), sender_ip)
        except Refused as refused:
            self._note(slug, headers, sender_ip, refused)
            return answer(refused)
        metrics.count_request(slug, outcome)
        return _accepted(kept)

    async def probe(self, slug: str) -> Answer:
        """Answer a set-up probe (GET or HEAD): 200 for a source that exists."""
        try:
            await self._source(slug)
        except Refused as refused:
            return answer(refused)
        return gateway.whole(200, b"")

    async def _source(self, slug: str) -> Source:
        """The source of that name, looked for again if it is not known. Raises Refused."""
        source = self.directory.get(slug)
        if source is not None:
            return source
        asked = await self.directory.refresh()
        source = self.directory.get(slug)
        if source is not None:
            return source
        if not asked or self.directory.is_unusable(slug):
            raise _unknown_now(StatusCodes())
        raise Refused(404, RefusalReason.UNKNOWN_SOURCE, "there is no source of this name; check the webhook's URL")

    async def _admit(self, source: Source, arrived: Request, sender_ip: str | None) -> tuple[Kept, str]:
        """Keep a request that is genuine, or may be; what stands for it, and as what it was taken."""
        now = datetime.now(UTC)
        source, quarantine = await self._verified(source, arrived, now)
        receipt = await self._worked_out(
            arrived, arrival.receipt, source, arrived, now, quarantine is not None, sender_ip, self.vault
        )
        kept = await self._keep(source.provider.STATUS_CODES, receipt, quarantine)
        return kept, "repeated" if kept.repeated else "unverified" if quarantine else "accepted"

    async def _verified(self, source: Source, arrived: Request, now: datetime) -> tuple[Source, Quarantine | None]:
        try:
            await self._worked_out(arrived, source.provider.verify, arrived, source.credentials, now)
        except VerificationError as error:
            return await self._doubted(source, arrived, now, error)
        return source, None

    async def _doubted(
        self, source: Source, arrived: Request, now: datetime, error: VerificationError
    ) -> tuple[Source, Quarantine | None]:
        """Decide on a request that failed verification: the credentials may have changed since we looked."""
        if self.directory.age_seconds > _TRUSTED_AGE_SECONDS:
            if not await self.directory.refresh():
                raise _unknown_now(source.provider.STATUS_CODES)
            current = self.directory.get(source.slug)
            if current is not None and current.version != source.version:
                return await self._verified(current, arrived, now)
        fetchable = error.key_id is not None and source.provider.key_lookup(error.key_id) is not None
        until = source.settings.quarantine_until
        if fetchable or (until is not None and now < until):
            return source, self._quarantine(error, now)
        raise Refused(
            source.provider.STATUS_CODES.bad_signature, error.reason, str(error), size=len(arrived.body)
        ) from None

    def _quarantine(self, error: VerificationError, now: datetime) -> Quarantine:
        return Quarantine(
            parking=Parking(
                state=ReceiptState.UNVERIFIED,
                reason=error.reason,
                detail=str(error),
                key_id=error.key_id,
                available_at=now,
            ),
            rows=self.settings.quarantine_rows,
            size=self.settings.quarantine_bytes,
        )

    async def _keep(self, codes: StatusCodes, receipt: Receipt, quarantine: Quarantine | None) -> Kept:
        writer = self.quarantine if quarantine else self.writer
        try:
            return await writer.keep(receipt, quarantine)
        except StorageUnavailableError as error:
            raise Refused(codes.unavailable, RefusalReason.UNAVAILABLE, str(error)) from error
        except QuarantineFullError as error:
            raise Refused(codes.bad_signature, RefusalReason.QUARANTINE_FULL, str(error)) from error

    async def _worked_out(
        self, arrived: Request, work: Callable[_P, _T], *arguments: _P.args, **keywords: _P.kwargs
    ) -> _T:
        """Do what takes as long as a body is large."""
        if len(arrived.body) <= _LARGE_BYTES:
            return work(*arguments, **keywords)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, lambda: work(*arguments, **keywords))

    def _note(self, slug: str, headers: Mapping[str, str], sender_ip: str | None, refused: Refused) -> None:
        known = self.directory.get(slug) is not None
        # Names that nobody configured are not made into labels: there is no end to them.
        metrics.count_request(slug if known else "", refused.reason)
        now = datetime.now(UTC)
        self.refusals.note(
            Refusal(
                id=ids.receipt_id(now),
                source=slug[:100].replace("\0", ""),
                refused_at=now,
                status_code=refused.status_code,
                reason=refused.reason,
                detail=str(refused),
                remote_ip=sender_ip,
                headers=arrival.headers_json(headers),
                bytes=refused.size,
            )
        )


def _unknown_now(codes: StatusCodes) -> Refused:
    return Refused(codes.unavailable, RefusalReason.UNAVAILABLE, "the source cannot be looked up now; try again")


def _accepted(kept: Kept) -> Answer:
    return gateway.whole(200, b'{"receipt": "%b"}' % str(kept.receipt_id).encode())

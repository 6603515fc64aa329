"""Verify, keep the bytes, ring, answer."""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from flask import Response
from werkzeug import Request as HttpRequest

from receiver import arrival, metrics
from receiver.arrival import Refused
from receiver.directory import Directory
from receiver.refusals import RefusalBook
from receiver.writer import Kept, Quarantine, QuarantineFullError, StorageUnavailableError, Writer
from shared import ids
from shared.db.receipts import Parking, Receipt
from shared.db.refusals import Refusal
from shared.domain.errors import VerificationError
from shared.domain.vocabulary import ReceiptState, RefusalReason
from shared.providers.base import Request, StatusCodes
from shared.secrets import Vault
from shared.settings import Settings
from shared.sources import Source

_TRUSTED_AGE_SECONDS = 0.25
_RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What answers providers, with everything it needs."""

    settings: Settings
    vault: Vault
    directory: Directory
    writer: Writer
    refusals: RefusalBook

    def receive(self, slug: str, http: HttpRequest) -> Response:
        """Answer a provider's POST: 200 when its bytes are committed, its own code for every failure otherwise."""
        now = datetime.now(UTC)
        try:
            source = self._source(slug)
            arrived = arrival.read(http, source.provider.STATUS_CODES, self.settings.max_body_bytes)
            source, quarantine = self._verified(source, arrived, now)
            sender_ip = arrival.remote_ip(http, self.settings.proxies)
            receipt = arrival.receipt(source, arrived, now, quarantine is not None, sender_ip, self.vault)
            kept = self._keep(source.provider.STATUS_CODES, receipt, quarantine)
        except Refused as refused:
            return self._refuse(slug, http, refused, now)
        outcome = "repeated" if kept.repeated else "unverified" if quarantine else "accepted"
        metrics.requests.labels(slug, outcome).inc()
        return Response(b'{"receipt": "%b"}' % str(kept.receipt_id).encode(), content_type="application/json")

    def probe(self, slug: str) -> Response:
        """Answer a set-up probe (GET or HEAD): 200 for a source that exists."""
        try:
            self._source(slug)
        except Refused as refused:
            return answer(refused)
        return Response(b"", content_type="application/json")

    def _source(self, slug: str) -> Source:
        source = self.directory.get(slug)
        if source is not None:
            return source
        asked = self.directory.refresh()
        source = self.directory.get(slug)
        if source is not None:
            return source
        if not asked or self.directory.is_unusable(slug):
            raise Refused(StatusCodes().unavailable, RefusalReason.UNAVAILABLE, "the source cannot be looked up now")
        raise Refused(404, RefusalReason.UNKNOWN_SOURCE, "there is no source of this name; check the webhook's URL")

    def _verified(self, source: Source, arrived: Request, now: datetime) -> tuple[Source, Quarantine | None]:
        try:
            source.provider.verify(arrived, source.credentials, now)
        except VerificationError as error:
            return self._doubted(source, arrived, now, error)
        return source, None

    def _doubted(
        self, source: Source, arrived: Request, now: datetime, error: VerificationError
    ) -> tuple[Source, Quarantine | None]:
        """Decide on a request that failed verification: the credentials may have changed since we looked."""
        if self.directory.age_seconds > _TRUSTED_AGE_SECONDS and self.directory.refresh():
            current = self.directory.get(source.slug)
            if current is not None and current.version != source.version:
                return self._verified(current, arrived, now)
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

    def _keep(self, codes: StatusCodes, receipt: Receipt, quarantine: Quarantine | None) -> Kept:
        try:
            return self.writer.keep(receipt, quarantine)
        except StorageUnavailableError as error:
            raise Refused(codes.unavailable, RefusalReason.UNAVAILABLE, str(error)) from error
        except QuarantineFullError as error:
            raise Refused(codes.bad_signature, RefusalReason.QUARANTINE_FULL, str(error)) from error

    def _refuse(self, slug: str, http: HttpRequest, refused: Refused, now: datetime) -> Response:
        known = self.directory.get(slug) is not None
        # Names that nobody configured are not made into labels: there is no end to them.
        metrics.requests.labels(slug if known else "", refused.reason).inc()
        self.refusals.note(
            Refusal(
                id=ids.receipt_id(now),
                source=slug[:100].replace("\0", ""),
                refused_at=now,
                status_code=refused.status_code,
                reason=refused.reason,
                detail=str(refused),
                remote_ip=arrival.remote_ip(http, self.settings.proxies),
                headers=arrival.headers_json(arrival.headers(http)),
                bytes=refused.size,
            )
        )
        return answer(refused)


def answer(refused: Refused) -> Response:
    """What is sent back for a request that is not taken."""
    response = Response(
        msgspec.json.encode({"reason": refused.reason, "error": str(refused)}),
        status=refused.status_code,
        content_type="application/json",
    )
    if refused.reason is RefusalReason.UNAVAILABLE:
        response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return response

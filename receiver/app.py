"""The public door: verify, keep the bytes, ring, answer."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from receiver import arrival, metrics
from receiver.arrival import Refused
from receiver.directory import Directory
from receiver.refusals import RefusalBook
from receiver.writer import Quarantine, QuarantineFullError, StorageUnavailableError, Writer
from shared import ids
from shared.db.receipts import Parking
from shared.db.refusals import Refusal
from shared.domain.errors import VerificationError
from shared.domain.vocabulary import ReceiptState, RefusalReason
from shared.providers.base import Request, StatusCodes
from shared.secrets import Vault
from shared.settings import Settings
from shared.sources import Source

_TRUSTED_AGE_SECONDS = 0.25
_RETRY_AFTER_SECONDS = 5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What answers providers, with everything it needs."""

    settings: Settings
    vault: Vault
    directory: Directory
    writer: Writer
    refusals: RefusalBook

    def receive(self, slug: str) -> Response:
        """Answer a provider's POST: 200 when its bytes are committed, its own code for every failure otherwise."""
        now = datetime.now(UTC)
        try:
            source = self._source(slug)
            arrived = arrival.read(source.provider.STATUS_CODES, self.settings.max_body_bytes)
            source, quarantine = self._verified(source, arrived, now)
            receipt = arrival.receipt(source, arrived, now, quarantine is not None, self._remote_ip(), self.vault)
            kept = self._keep(source, lambda: self.writer.keep(receipt, quarantine))
        except Refused as refused:
            return self._refuse(slug, refused, now)
        outcome = "repeated" if kept.repeated else "unverified" if quarantine else "accepted"
        metrics.requests.labels(slug, outcome).inc()
        return Response(b'{"receipt": "%b"}' % str(kept.receipt_id).encode(), content_type="application/json")

    def probe(self, slug: str) -> Response:
        """Answer a set-up probe (GET or HEAD): 200 for a source that exists."""
        try:
            self._source(slug)
        except Refused as refused:
            return _answer(refused)
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
        raise Refused(source.provider.STATUS_CODES.bad_signature, error.reason, str(error))

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

    def _keep(self, source: Source, keep: Any) -> Any:
        codes = source.provider.STATUS_CODES
        try:
            return keep()
        except StorageUnavailableError as error:
            raise Refused(codes.unavailable, RefusalReason.UNAVAILABLE, str(error)) from error
        except QuarantineFullError as error:
            raise Refused(codes.bad_signature, RefusalReason.QUARANTINE_FULL, str(error)) from error

    def _remote_ip(self) -> str | None:
        return arrival.remote_ip(self.settings.proxies)

    def _refuse(self, slug: str, refused: Refused, now: datetime) -> Response:
        known = self.directory.get(slug) is not None
        # Names that nobody configured are not made into labels: there is no end to them.
        metrics.requests.labels(slug if known else "", refused.reason).inc()
        self.refusals.note(
            Refusal(
                id=ids.receipt_id(now),
                source=slug[:100],
                refused_at=now,
                status_code=refused.status_code,
                reason=refused.reason,
                detail=str(refused),
                remote_ip=self._remote_ip(),
                headers=arrival.headers_json(arrival.headers()),
                bytes=refused.size,
                sha256=refused.sha256,
            )
        )
        return _answer(refused)


def create_app(door: Door) -> Flask:
    """The WSGI application of a receiver."""
    app = Flask("receiver")
    app.config["MAX_CONTENT_LENGTH"] = door.settings.max_body_bytes
    app.add_url_rule("/webhooks/<slug>", "receive", door.receive, methods=["POST"])
    app.add_url_rule("/webhooks/<slug>", "probe", door.probe, methods=["GET", "HEAD"])

    @app.get("/healthz")
    def alive() -> Response:
        return Response(b"alive\n", content_type="text/plain")

    @app.get("/readyz")
    def ready() -> Response:
        try:
            door.writer.check()
        except StorageUnavailableError as error:
            return Response(f"{error}\n", status=503, content_type="text/plain")
        return Response(b"ready\n", content_type="text/plain")

    @app.get("/metrics")
    def measured() -> Response:
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return _answer(Refused(error.code or 500, RefusalReason.UNREADABLE, error.description or error.name))
        log.error("a request failed", path=request.path, exc_info=error)
        return _answer(
            Refused(StatusCodes().unavailable, RefusalReason.UNAVAILABLE, "something failed here; try again")
        )

    return app


def _answer(refused: Refused) -> Response:
    response = Response(
        msgspec.json.encode({"reason": refused.reason, "error": str(refused)}),
        status=refused.status_code,
        content_type="application/json",
    )
    if refused.reason is RefusalReason.UNAVAILABLE:
        response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return response

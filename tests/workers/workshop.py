"""A worker's rim on a database of the test's own: what arrives is put there as a receiver would put it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from shared import ids
from shared.doorbell import DRAIN, Doorbell
from shared.encryption import Vault, new_key
from shared.postgres import engine
from shared.postgres.connection import Plans
from shared.providers.webhooks.base import Request
from shared.receipts import dedup
from shared.receipts import headers as kept_headers
from shared.receipts import store as receipts
from shared.receipts.store import Parking, Receipt
from shared.rules import RuleBook
from shared.settings import Settings
from shared.sources import store as sources
from shared.sources.cache import SourceCache
from shared.sources.source import Source, open_source
from shared.suppression import recipient_hashes
from shared.vocabulary import ReceiptState, RefusalReason
from tests import effects
from workers.context import WorkerContext


class NotingBell(Doorbell):
    """Notes that it rang, and tells nobody."""

    def __init__(self) -> None:
        self.rings: list[str] = []

    def ring(self, task: str = DRAIN) -> bool:
        self.rings.append(task)
        return True

    def close(self) -> None:
        """There is nothing to let go of."""


@dataclass
class Workshop:
    """What a test puts in, and looks at afterwards."""

    ctx: WorkerContext
    bell: NotingBell
    made: list[WorkerContext] = field(default_factory=list)

    def another_rim(self) -> WorkerContext:
        """The rim of one more worker process."""
        engines = self.ctx.engine.url.render_as_string(hide_password=False)
        ctx = build(engines, self.ctx.settings, self.ctx.vault, self.bell)
        self.made.append(ctx)
        return ctx

    def add_source(self, slug: str, provider: str, credentials: Mapping[str, Any], **settings: str) -> Source:
        with self.ctx.engine.begin() as connection:
            sealed = self.ctx.vault.seal(credentials)
            row = sources.create(connection, slug=slug, provider=provider, credentials=sealed, settings=settings)
        return open_source(row, self.ctx.vault)

    def receive(self, source: Source, body: bytes, headers: Mapping[str, str] | None = None) -> UUID:
        """Store and queue a request whose signature was found to be good."""
        receipt = self.arrived(source, body, headers or {})
        with self.ctx.engine.begin() as connection:
            assert receipts.record(connection, [receipt]) == {receipt.id}
        return receipt.id

    def park(self, source: Source, body: bytes, headers: Mapping[str, str], key_id: str | None = None) -> UUID:
        """Keep a request apart whose signature names a key that is not known, or was not found to be good."""
        receipt = self.arrived(source, body, headers, unverified=True)
        parking = Parking(
            state=ReceiptState.UNVERIFIED,
            reason=RefusalReason.UNKNOWN_KEY if key_id else RefusalReason.BAD_CREDENTIALS,
            detail="set aside by a test",
            key_id=key_id,
            available_at=receipt.received_at,
        )
        with self.ctx.engine.begin() as connection:
            assert receipts.park_new(connection, receipt, parking, rows=1000, size=1 << 24)
        return receipt.id

    def arrived(self, source: Source, body: bytes, headers: Mapping[str, str], *, unverified: bool = False) -> Receipt:
        now = datetime.now(UTC)
        lowered = {name.lower(): value for name, value in headers.items()}
        request = Request(headers=lowered, body=body)
        stored = kept_headers.kept(lowered, self.ctx.vault if unverified else None)
        return Receipt(
            id=ids.receipt_id(now),
            source_id=source.id,
            received_at=now,
            key=dedup.key(source, request, unverified=unverified),
            key_expires_at=dedup.expires_at(source, now),
            idempotency_key=None,
            remote_ip=None,
            headers=msgspec.json.encode(stored).decode(),
            body=body,
        )

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.ctx.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, values or None)]

    def run(self, statement: str, **values: Any) -> None:
        with self.ctx.engine.begin() as connection:
            connection.exec_driver_sql(statement, values or None)

    def standing(self, receipt_id: UUID) -> tuple[str, str | None]:
        """Where a receipt stands, and why."""
        if self.rows("SELECT 1 FROM pending_receipts WHERE receipt_id = %(id)s", id=receipt_id):
            return "pending", None
        parked = self.rows("SELECT state, reason FROM parked_receipts WHERE receipt_id = %(id)s", id=receipt_id)
        return parked[0] if parked else ("processed", None)

    def statuses(self) -> Mapping[str, str | None]:
        """The status of every recipient; each has one message here."""
        return dict(self.rows("SELECT recipient, status FROM recipient_states"))

    def changes(self) -> list[str]:
        """What was announced, in its order."""
        return [row[0] for row in self.rows("SELECT type FROM state_changes ORDER BY id")]

    def come_due(self) -> None:
        """Let all waiting times pass and all leases run out."""
        self.run("UPDATE pending_receipts SET available_at = now() - interval '1 s', lease_until = NULL")
        self.run("UPDATE parked_receipts SET available_at = now() - interval '1 s'")

    def nothing_is_doubled(self) -> None:
        with self.ctx.engine.connect() as connection:
            effects.nothing_is_doubled(connection)


def build(database_url: str, settings: Settings, vault: Vault, bell: Doorbell) -> WorkerContext:
    """A rim as `workers.context.build` makes it, with a bell of our own."""
    engine_sync_commit = engine.create(database_url, application="test worker durable", pool_size=1)
    with engine_sync_commit.begin() as connection:
        keys = recipient_hashes.load(connection, vault)
    return WorkerContext(
        settings=settings,
        engine=engine.create(database_url, application="test worker", pool_size=4, synchronous_commit=False),
        engine_small_batches=engine.create(
            database_url, application="test worker brisk", pool_size=4, synchronous_commit=False, plans=Plans.ONCE
        ),
        engine_sync_commit=engine_sync_commit,
        vault=vault,
        source_cache=SourceCache(vault),
        doorbell=bell,
        keys=keys,
        rules=RuleBook(settings.rules, look_seconds=0),
    )


@contextmanager
def opened(database_url: str, **settings: Any) -> Iterator[Workshop]:
    bell = NotingBell()
    ctx = build(database_url, Settings(**settings), Vault([new_key()]), bell)
    workshop = Workshop(ctx, bell, [ctx])
    yield workshop
    for made in workshop.made:
        made.close()

"""How far each source has been reconciled, and who reconciles it: a lease with a fencing token."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, case, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.reconciliation.tables import reconciliations
from shared.sources.tables import sources

_POSTPONE_SECONDS = 300.0
_MAX_FAILURES_COUNTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to reconcile a source, which the token proves, and the state of the source when the run began."""

    source_id: int
    token: UUID
    started_at: datetime
    reconciled_until: datetime | None
    checked_at: datetime | None
    validated_at: datetime | None
    validated: bool | None
    failures: int


_columns = reconciliations.c


def ensure(connection: Connection, source_ids: Iterable[int]) -> None:
    """Insert rows for the sources that have none; they are due at once."""
    rows = [{"source_id": source_id, "next_at": func.now()} for source_id in source_ids]
    connection.execute(insert(reconciliations).values(rows).on_conflict_do_nothing())


def ensure_for(connection: Connection, providers: Iterable[str]) -> None:
    """Insert rows for the sources of these providers that have none."""
    without_row = select(sources.c.id, func.now()).where(
        sources.c.provider.in_(list(providers)),
        sources.c.deleted_at.is_(None),
        ~exists().where(_columns.source_id == sources.c.id),
    )
    statement = insert(reconciliations).from_select(["source_id", "next_at"], without_row)
    connection.execute(statement.on_conflict_do_nothing())


def claim_due(connection: Connection, *, token: UUID, lease_seconds: float) -> Lease | None:
    """Lease the source that has been due longest; None if none is due or all are leased."""
    queue = reconciliations.alias()
    due = (
        select(queue.c.source_id)
        .where(
            queue.c.next_at <= func.now(),
            or_(queue.c.lease_until.is_(None), queue.c.lease_until < func.now()),
            exists().where(sources.c.id == queue.c.source_id, sources.c.deleted_at.is_(None)),
        )
        .order_by(queue.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return _claim(connection, _columns.source_id == due.scalar_subquery(), token, lease_seconds)


def claim(connection: Connection, source_id: int, *, token: UUID, lease_seconds: float) -> Lease | None:
    """Lease this source, due or not; None if it is leased."""
    is_free = or_(_columns.lease_until.is_(None), _columns.lease_until < func.now())
    return _claim(connection, (_columns.source_id == source_id) & is_free, token, lease_seconds)


def renew(connection: Connection, lease: Lease, *, lease_seconds: float) -> bool:
    """Extend a lease. Return False if it is lost, and nothing may be written."""
    until = func.now() + timedelta(seconds=lease_seconds)
    return bool(connection.execute(_update_held(lease).values(lease_until=until)).rowcount)


def advance(connection: Connection, source_id: int, until: datetime | None) -> None:
    """Record the time until which everything has been listed. It replaces a future time, which a wrong clock left."""
    known = case((_columns.reconciled_until <= func.now(), _columns.reconciled_until))
    latest = func.greatest(known, literal(until, _columns.reconciled_until.type))
    connection.execute(update(reconciliations).where(_columns.source_id == source_id).values(reconciled_until=latest))


def release(
    connection: Connection, lease: Lease, *, next_at: datetime, error: str | None, failures: int, finished: bool
) -> None:
    """Release a lease with the outcome of the run, if it is still held."""
    values: dict[str, Any] = {
        "lease_until": None,
        "lease_token": None,
        "next_at": next_at,
        "last_error": error,
        "failures": min(failures, _MAX_FAILURES_COUNTED),
    }
    if finished:
        values["last_finished_at"] = func.now()
    connection.execute(_update_held(lease).values(values))


def postpone(connection: Connection, lease: Lease, *, error: str | None) -> None:
    """Release the lease of a source that cannot be reconciled until an operator changes it."""
    next_at = func.now() + timedelta(seconds=_POSTPONE_SECONDS)
    values = {"lease_until": None, "lease_token": None, "last_error": error, "next_at": next_at}
    connection.execute(_update_held(lease).values(values))


def record_webhooks(
    connection: Connection, source_id: int, webhooks: Sequence[Mapping[str, Any]], *, enrolled: bool | None
) -> None:
    """Store the account's webhooks, each `{url, enabled, ours}`, and whether one of them leads to us."""
    values = {"webhooks": list(webhooks), "enrolled": enrolled, "checked_at": func.now()}
    connection.execute(update(reconciliations).where(_columns.source_id == source_id).values(values))


def record_validation(connection: Connection, source_id: int, *, validated: bool) -> None:
    """Store whether the provider's test reached us."""
    connection.execute(
        update(reconciliations)
        .where(_columns.source_id == source_id)
        .values(validated=validated, validated_at=func.now())
    )


def get(connection: Connection, source_id: int) -> Row[Any] | None:
    """Return the state of a source's reconciliation; None if it was never reconciled.

    `failures` counts runs in a row that could not ask the provider; `enrolled` and `validated` are None if not known.
    """
    hidden = {"source_id", "lease_until", "lease_token"}
    columns = [column for column in _columns if column.name not in hidden]
    return connection.execute(select(*columns).where(_columns.source_id == source_id)).one_or_none()


def _claim(connection: Connection, which: ColumnElement[bool], token: UUID, lease_seconds: float) -> Lease | None:
    until = func.now() + timedelta(seconds=lease_seconds)
    statement = (
        update(reconciliations)
        .where(which)
        .values(lease_until=until, lease_token=token, last_started_at=func.now())
        .returning(
            _columns.source_id,
            _columns.lease_token.label("token"),
            _columns.last_started_at.label("started_at"),
            _columns.reconciled_until,
            _columns.checked_at,
            _columns.validated_at,
            _columns.validated,
            _columns.failures,
        )
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else Lease(**row)


def _update_held(lease: Lease) -> Any:
    is_held = (_columns.source_id == lease.source_id) & (_columns.lease_token == lease.token)
    return update(reconciliations).where(is_held)

"""Refusals: requests that the receiver did not store, each with its reason."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refused request. `count` includes similar ones that have no row."""

    id: UUID
    source: str
    refused_at: datetime
    status_code: int
    reason: str
    detail: str
    remote_ip: str | None
    headers: str
    bytes: int
    count: int = 1


_NAMES = tuple(entry.name for entry in fields(Refusal))
_INSERT = (
    f"INSERT INTO refusals ({', '.join(_NAMES)}) VALUES ("
    + ", ".join(f"%({name})s" + ("::json" if name == "headers" else "") for name in _NAMES)
    + ")"
)


def record(connection: Connection, refusals: Sequence[Refusal]) -> None:
    """Store refusals."""
    connection.exec_driver_sql(_INSERT, [asdict(refusal) for refusal in refusals])

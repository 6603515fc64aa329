"""The signatures of messages, several thousand to a row, and the queue of messages that have none yet.

Triggers queue each message that is new or whose texts have changed, so events cost no more (decision 55). A message
may have several signatures; each is of the texts at one time.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, select, text, update

from shared.messages import signatures
from shared.messages.tables import messages, recipient_states, search_queue, search_signatures
from shared.postgres.metadata import is_any

ENTRIES: Final = 4096
"""The least number of entries in a row. With fewer there are more rows to read; with more the queue is longer."""
_MAX_QUEUE_ROWS: Final = 5000
_MAX_WAITING: Final = 4 * ENTRIES
"""The number of queued messages that a search reads, the newest first. More wait only after an update of Tidings."""
_MAX_TEXTS: Final = 1000
"""The maximum of recipients in a signature. A message with more is a candidate of every search."""
_LOCK: Final = 0x71D1467
_ROWS_READ_AT_ONCE: Final = 256

# Text: slices of a long value, which is stored uncompressed so that PostgreSQL reads nothing else of it. `newest_at`
# comes first in each comparison, so that the index by time serves it.
_SLICES: Final = text(
    """
    SELECT id, newest_at, ARRAY(
        SELECT substring(bits FROM slot * ((entries + 7) / 8) + 1 FOR (entries + 7) / 8)
        FROM unnest(CAST(:slots AS integer[])) AS slot
    ) AS slices
    FROM search_signatures
    WHERE (newest_at, id) < (CAST(:newest_at AS timestamptz), CAST(:id AS bigint)) AND newest_at >= :since
        AND oldest_at <= :until
    ORDER BY newest_at DESC, id DESC LIMIT :rows
    """
)
_ALL_SLICES: Final = text(
    """
    SELECT id, ARRAY(
        SELECT substring(bits FROM slot * ((entries + 7) / 8) + 1 FOR (entries + 7) / 8)
        FROM unnest(CAST(:slots AS integer[])) AS slot
    ) AS slices
    FROM search_signatures WHERE id > :after ORDER BY id LIMIT :rows
    """
)
_IDS: Final = text(
    """
    SELECT substring(message_ids FROM place * 16 + 1 FOR 16)
    FROM unnest(CAST(:rows AS bigint[]), CAST(:places AS integer[])) AS found (row, place)
    JOIN search_signatures ON id = found.row
    """
)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


class Candidates(NamedTuple):
    """Messages that may match. All matches after `complete_after` are among them; None: all matches."""

    ids: Sequence[UUID]
    complete_after: datetime | None


def index_queued(connection: Connection, *, least: int = ENTRIES) -> int:
    """Make signatures of the queued messages, if there are `least`; return the number of entries.

    One worker at a time does so.
    """
    if not connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
        return 0
    rows, ids = [], dict[UUID, None]()
    queued = select(search_queue).order_by(search_queue.c.id).limit(_MAX_QUEUE_ROWS)
    for row in connection.execute(queued):
        rows.append(row.id)
        ids.update(dict.fromkeys(row.message_ids))
        if len(ids) >= ENTRIES:
            break
    if not rows or (len(ids) < least and len(rows) < _MAX_QUEUE_ROWS):
        return 0
    # Locked before the texts are read, so a later change of them queues the message again.
    connection.execute(delete(search_queue).where(search_queue.c.id.in_(rows)))
    found = _read_texts(connection, list(ids))
    if found:
        connection.execute(
            insert(search_signatures).values(
                oldest_at=found[0][1],
                newest_at=found[-1][1],
                entries=len(found),
                message_ids=b"".join(message_id.bytes for message_id, _, _ in found),
                bits=signatures.encode([slots for _, _, slots in found]),
            )
        )
    return len(found)


def list_candidates(
    connection: Connection,
    slots: Collection[int],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
) -> Candidates:
    """Return the queued messages, and the newest of those that have these slots.

    Returns more than `limit` only if one row has more. `until` is inclusive.
    """
    waiting = select(search_queue.c.message_ids).order_by(search_queue.c.id.desc()).limit(_MAX_QUEUE_ROWS)
    ids: dict[UUID, None] = {}
    for (message_ids,) in connection.execute(waiting):
        ids.update(dict.fromkeys(message_ids))
        if len(ids) >= _MAX_WAITING:
            break
    found: list[tuple[int, int]] = []
    span = {"since": since or _EARLIEST, "until": until or _LATEST, "rows": _ROWS_READ_AT_ONCE}
    position: tuple[datetime, int] = _LATEST, 0
    chosen = sorted(slots)
    if len(chosen) > signatures.MAX_SLOTS_OF_SEARCH:
        values = {"slots": chosen, "newest_at": _LATEST, "id": 0, **span, "rows": 1}
        for row in connection.execute(_SLICES, values):
            chosen = signatures.choose(chosen, dict(zip(chosen, row.slices, strict=True)))
    while True:
        values = {"slots": chosen, "newest_at": position[0], "id": position[1], **span}
        rows = connection.execute(_SLICES, values).all()
        for row in rows:
            if len(found) >= limit:
                return Candidates([*(ids | _read_ids(connection, found))], row.newest_at)
            position = row.newest_at, row.id
            found += ((row.id, place) for place in signatures.positions_in_all(row.slices))
        if len(rows) < _ROWS_READ_AT_ONCE:
            return Candidates([*(ids | _read_ids(connection, found))], None)


def clear_signatures_of(connection: Connection, words: str, after: int) -> tuple[int, int | None]:
    """Clear the signatures that may be of these words, in a part of the rows, and queue their messages again.

    Begins after the row with the id `after`. Returns how many entries were cleared, and the id of the last row read;
    None at the end. The texts must no longer contain the words.
    """
    # A worker may be computing a signature from the old texts. The lock waits until its row can be read.
    connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    parameters = {"slots": sorted(signatures.of_texts([words])), "after": after, "rows": _ROWS_READ_AT_ONCE}
    rows = connection.execute(_ALL_SLICES, parameters).all()
    found = [(row.id, place) for row in rows for place in signatures.positions_in_all(row.slices)]
    for row_id, places in groupby(found, itemgetter(0)):
        table = search_signatures.c
        old = connection.execute(select(table.bits, table.entries).where(table.id == row_id)).one()
        bits = signatures.clear(old.bits, old.entries, [place for _, place in places])
        connection.execute(update(search_signatures).where(table.id == row_id).values(bits=bits))
    if found:
        connection.execute(insert(search_queue).values(message_ids=list(_read_ids(connection, found))))
    return len(found), rows[-1].id if len(rows) == _ROWS_READ_AT_ONCE else None


def _read_texts(connection: Connection, ids: Sequence[UUID]) -> list[tuple[UUID, datetime, set[int]]]:
    """Return id, time and slots of each message that exists, in the order of time."""
    recipients = (
        select(recipient_states.c.recipient)
        .where(recipient_states.c.message_id == messages.c.id, recipient_states.c.recipient != "")
        .limit(_MAX_TEXTS + 1)
        .scalar_subquery()
    )
    texts = messages.c.subject, messages.c.sender, messages.c.tag, messages.c.tenant
    statement = select(messages.c.id, messages.c.created_at, *texts, func.array(recipients).label("recipients"))
    found = []
    for row in connection.execute(statement.where(is_any(messages.c.id, ids)).order_by(messages.c.created_at)):
        if len(row.recipients) > _MAX_TEXTS:
            slots = set(range(signatures.SLOTS))
        else:
            slots = signatures.of_texts((row.subject, row.sender, *row.recipients))
            for name, value in (("tag", row.tag), ("tenant", row.tenant)):
                slots |= signatures.of_mark(name, value) if value else set()
        found.append((row.id, row.created_at, slots))
    return found


def _read_ids(connection: Connection, found: Sequence[tuple[int, int]]) -> dict[UUID, None]:
    """Return the messages of these entries, each given by its row and its number in the row."""
    if not found:
        return {}
    rows, places = zip(*found, strict=True)
    values = connection.execute(_IDS, {"rows": list(rows), "places": list(places)}).scalars()
    return {UUID(bytes=bytes(value)): None for value in values}

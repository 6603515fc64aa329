"""Imports and exports the suppression list.

An import checks and stages every line first, then adds all entries at once. Checking takes turns with other work and
continues after a crash from the line it had reached. Writing is one transaction: either the whole file is on the list,
or nothing of it. It takes about half a minute for a million lines; meanwhile entries that earlier imports added for the
same addresses cannot be lifted, all others can.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from shared.errors import InvalidFieldError
from shared.jobs import files as job_files
from shared.jobs.store import Job
from shared.suppression import csv_files, queries, recipient_hashes, store
from shared.suppression import jobs as suppression_jobs
from shared.suppression.csv_files import CsvWriter, Defaults, Layout, Record, replace_nul
from shared.suppression.queries import SuppressionFilters
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.store import NewEntry
from shared.vocabulary import MailType, SuppressionOrigin, SuppressionReason
from workers.context import WorkerContext
from workers.jobs.progress import JobError, Progress

RECORDS_PER_BATCH = 2000
ENTRIES_PER_BATCH = 5000
_MAX_BAD_LINES_SHOWN = 20
_EXPIRED = "expired"
_MAX_TEXT_SHOWN = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where to continue: at this line, which is `skip` lines behind the beginning of this part of the file."""

    part: int = 0
    skip: int = 0
    line: int = 1
    bad_parts: int = 0
    written: bool = False


# `good`, `over` and `bad` count lines; `over` are those whose end has passed. Of the `entries` `added` are new, and
# `changed` suppress other mail or another time than before.
_EMPTY_REPORT: Mapping[str, Any] = {
    "good": 0,
    "over": 0,
    "bad": 0,
    "bad_lines": [],
    "skipped": [],
    "ignored_columns": [],
    "entries": None,
    "added": None,
    "changed": None,
}


class _InputFile:
    """The lines of the job's file from a position on, and the position of each line that was read."""

    def __init__(self, engine: Engine, job_id: UUID, position: Position) -> None:
        self._engine = engine
        self._job_id = job_id
        self._position = position
        self._starts: list[tuple[int, int]] = []

    def lines(self) -> Iterator[bytes]:
        """Yield the lines, each with its end."""
        part, skip = self._position.part, self._position.skip
        number = self._position.line - skip
        while True:
            with self._engine.begin() as connection:
                content = job_files.read(connection, self._job_id, job_files.INPUT, part)
            if content is None:
                return
            lines = content.splitlines(keepends=True)
            self._starts.append((part, number))
            yield from lines[skip:]
            part, skip, number = part + 1, max(0, skip - len(lines)), number + len(lines)

    def position_of(self, line: int) -> Position:
        """Return the position of a line that was read, or of the next one."""
        part, start = max(entry for entry in self._starts if entry[1] <= line)
        self._starts = [entry for entry in self._starts if entry[0] >= part]
        return replace(self._position, part=part, skip=line - start, line=line)


def import_list(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Import the job's file. Raises JobError where it has bad lines that may not be skipped."""
    position, report = Position(**job.position), {**_EMPTY_REPORT, **job.report}
    if position.written:
        return job.report
    position, report = _check(ctx, job, progress, position, report)
    if report["bad"] and not job.parameters["skip_bad_lines"]:
        lines = report["bad"] + report["good"] + sum(entry["count"] for entry in report["skipped"])
        raise JobError(
            f"{report['bad']} of {lines} lines cannot be used, so nothing was imported. The job's file lists them;"
            " correct them, or import again and skip bad lines.",
            report,
        )
    if not report["good"]:
        why = [f"{entry['count']} {entry['reason']}" for entry in report["skipped"]]
        why += [f"{report['bad']} that cannot be used"] if report["bad"] else []
        raise JobError(
            f"Nothing was imported. The file has {'lines: ' + ', '.join(why) if why else 'no lines'}.", report
        )
    return _write(ctx, job, progress, position, report)


def _check(
    ctx: WorkerContext, job: Job, progress: Progress, position: Position, report: dict[str, Any]
) -> tuple[Position, dict[str, Any]]:
    """Check the rest of the file, batch by batch: stage good lines, list bad ones in the job's file."""
    total, now = job.parameters["lines"], datetime.now(UTC)
    layout, defaults = _read_parameters(ctx, job)
    file = _InputFile(ctx.engine, job.id, position)
    lines = file.lines()
    if layout is not None and position.line == 1:
        for _ in range(layout.lines):
            next(lines)
        position = replace(position, line=1 + layout.lines)
        report = {**report, "ignored_columns": list(layout.ignored)}
    records: Iterator[Record]
    if layout is None:
        numbered = enumerate(lines, position.line)
        records = (Record(number=number, lines=1, text=line.decode("utf-8", "replace")) for number, line in numbered)
    else:
        records = csv_files.read_records(lines, position.line, layout)
    while batch := list(islice(records, RECORDS_PER_BATCH)):
        staged, bad, skipped = _read_batch(batch, layout, defaults, ctx.hasher, now)
        shown = [
            {**line, "problem": replace_nul(line["problem"]), "text": replace_nul(line["text"][:_MAX_TEXT_SHOWN])}
            for line in bad[:_MAX_BAD_LINES_SHOWN]
        ]
        report = {
            **report,
            "good": report["good"] + len(staged),
            "over": report["over"] + sum(why == _EXPIRED for _, why in skipped),
            "skipped": _add_skipped(report["skipped"], skipped),
            "bad": report["bad"] + len(bad),
            "bad_lines": [*report["bad_lines"], *shown][:_MAX_BAD_LINES_SHOWN],
        }
        following = batch[-1].number + batch[-1].lines
        position = replace(file.position_of(following), bad_parts=position.bad_parts + bool(bad))
        with ctx.engine.begin() as connection:
            progress.record(connection, min(following - 1, total), total, asdict(position), report)
            store.stage(connection, job.id, staged)
            if bad:
                writer = CsvWriter(("line", "problem", "text"))
                if position.bad_parts == 1:
                    writer.write_header()
                for line in bad:
                    writer.write_row(line)
                job_files.write(connection, job.id, job_files.OUTPUT, position.bad_parts - 1, writer.take())
        progress.end_turn_if_over()
    return position, report


def _read_batch(
    batch: Sequence[Record], layout: Layout | None, defaults: Defaults, hasher: RecipientHasher, now: datetime
) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]], list[tuple[int, str]]]:
    """Return the entries to stage, the bad lines with their problems, and the skipped lines with the reasons."""
    staged: list[Mapping[str, Any]] = []
    bad: list[dict[str, Any]] = []
    skipped: list[tuple[int, str]] = []
    for record in batch:
        try:
            if layout is None:
                row = csv_files.read_row(record.text.encode(), defaults)
            else:
                row = csv_files.read_record(record, layout, defaults)
        except InvalidFieldError as error:
            bad.append({"line": record.number, "problem": str(error), "text": record.text.strip("\r\n")})
            continue
        if why := row.skipped or (_EXPIRED if row.until is not None and row.until <= now else None):
            skipped.append((record.number, why))
            continue
        address = row.target.address
        is_pseudonym = address is not None and recipient_hashes.key_of(address) is not None  # from an export of ours
        staged.append(
            {
                "key": hasher.hash_target(row.target),
                "tenant": row.tenant,
                "reason": row.reason,
                "address": None if is_pseudonym else address,
                "domain": row.target.domain,
                "types": row.types,
                "classification": row.classification,
                "until": row.until,
                "note": row.note,
            }
        )
    return staged, bad, skipped


def _add_skipped(before: Sequence[Mapping[str, Any]], skipped: Sequence[tuple[int, str]]) -> list[Mapping[str, Any]]:
    """Return how many lines were skipped for each reason, with the numbers of the first of them."""
    found = {entry["reason"]: (entry["count"], entry["lines"]) for entry in before}
    for number, why in skipped:
        count, lines = found.get(why, (0, []))
        found[why] = count + 1, lines if len(lines) == _MAX_BAD_LINES_SHOWN else [*lines, number]
    return [{"reason": why, "count": count, "lines": lines} for why, (count, lines) in found.items()]


def _read_parameters(ctx: WorkerContext, job: Job) -> tuple[Layout | None, Defaults]:
    """Return the layout of a CSV file (None of JSON objects), and the defaults. Raises JobError."""
    layout = None
    if job.parameters["format"] == suppression_jobs.CSV:
        with ctx.engine.begin() as connection:
            first = job_files.read(connection, job.id, job_files.INPUT, 0) or b""
        try:
            layout = csv_files.read_header(first)
        except InvalidFieldError as error:
            raise JobError(str(error)) from None
    return layout, Defaults(
        types=frozenset(map(MailType, job.parameters["types"])),
        reason=SuppressionReason(job.parameters["reason"]),
        tenant=job.parameters["tenant"],
        only_tenant=job.parameters.get("only_tenant"),
    )


def _write(
    ctx: WorkerContext, job: Job, progress: Progress, position: Position, report: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Add all staged entries in one transaction; return the finished report."""
    now, total = datetime.now(UTC), job.parameters["lines"]
    written = asdict(replace(position, written=True))
    entries = added = changed = 0
    with ctx.engine.begin() as connection:
        progress.record(connection, total, total, written, report)  # from here on no other worker can take the job
        for staged in store.list_staged(connection, job.id, ENTRIES_PER_BATCH):
            batch = [
                NewEntry(
                    key=line.key.hex,
                    address=line.address,
                    domain=line.domain,
                    reason=SuppressionReason(line.reason),
                    types=frozenset(map(MailType, line.types)),
                    origin=SuppressionOrigin.IMPORT,
                    since=now,
                    tenant=line.tenant,
                    until=line.until,
                    classification=line.classification,
                    actor=job.asked_by,
                    note=line.note,
                )
                for line in staged
            ]
            changes = store.add(connection, batch, now, merge=not job.parameters.get("replace"))
            new = sum(entry.created_at == now for entry in changes)
            entries, added, changed = entries + len(batch), added + new, changed + len(changes) - new
        finished = {**report, "entries": entries, "added": added, "changed": changed}
        progress.record(connection, total, total, written, finished)
    return finished


def export_list(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Write all matching entries to a CSV file that can be imported again."""
    filters, now = SuppressionFilters(**job.parameters), datetime.now(UTC)
    done, part, after = job.done, job.position.get("part", 0), job.position.get("after")
    while part == 0 or after is not None:
        writer = CsvWriter(csv_files.COLUMNS)
        if part == 0:
            writer.write_header()
        with ctx.engine.begin() as connection:
            page = queries.list_by_key(connection, now, filters, after=after, limit=ENTRIES_PER_BATCH)
            for entry in page.items:
                # The pseudonym of an erased address: importing it finds the same entry.
                erased = entry.address is None and entry.domain is None
                address = recipient_hashes.pseudonym(entry.key) if erased else entry.address
                writer.write_row({**entry._asdict(), "address": address})
            job_files.write(connection, job.id, job_files.OUTPUT, part, writer.take())
            done, part, after = done + len(page.items), part + 1, page.next and [str(key) for key in page.next]
            progress.record(connection, done, None if after else done, {"part": part, "after": after})
        progress.end_turn_if_over()
    return {"entries": done}

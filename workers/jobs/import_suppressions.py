"""Importing a suppression list: every line is read and checked first, then all of them go on the list at once.

Reading takes its turns with other work, and goes on after a crash from the line it had got to. Writing is one
transaction: either all of the file is on the list, or nothing of it. While it is written, which takes about half a
minute for a million lines, what imports said of the same addresses before cannot be lifted; all else can.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from shared.jobs import files as job_files
from shared.jobs.store import Job
from shared.suppression import csv_files, import_staging, recipient_hashes
from shared.suppression import jobs as suppression_jobs
from shared.suppression import store as suppressions
from shared.suppression.csv_files import Defaults, Layout, LineError, Listed, ListError, Record, Sheet
from shared.suppression.import_staging import Staged
from shared.suppression.recipient_hashes import RecipientKeys
from shared.suppression.store import NewEntry
from shared.vocabulary import MailType, SuppressionOrigin, SuppressionReason
from workers.context import WorkerContext
from workers.jobs.progress import JobError, Progress

_RECORDS_AT_ONCE = 2000
_WRITTEN_AT_ONCE = 5000
_BAD_LINES_SHOWN = 20
_LONGEST_TEXT_SHOWN = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to go on: at this line, which is `skip` lines behind the beginning of this part of the file."""

    part: int = 0
    skip: int = 0
    line: int = 1
    bad_parts: int = 0
    written: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found. `good` counts lines, `entries` what they are about; `over` are those whose end has passed.

    Of the entries `added` are new, and `changed` hold for other mail or another time than before.
    """

    good: int = 0
    over: int = 0
    bad: int = 0
    bad_lines: list[Mapping[str, Any]] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    entries: int | None = None
    added: int | None = None
    changed: int | None = None


@dataclass(slots=True)
class _Input:
    """The lines of the file, from a place on; and the place of each line that was given out."""

    engine: Engine
    job_id: UUID
    place: Place
    _beginnings: list[tuple[int, int]] = field(default_factory=list)

    def lines(self) -> Iterator[bytes]:
        """The lines, each with its end."""
        part, skip, number = self.place.part, self.place.skip, self.place.line - self.place.skip
        while True:
            with self.engine.begin() as connection:
                content = job_files.read(connection, self.job_id, job_files.INPUT, part)
            if content is None:
                return
            lines = content.splitlines(keepends=True)
            self._beginnings.append((part, number))
            yield from lines[skip:]
            part, skip, number = part + 1, max(0, skip - len(lines)), number + len(lines)

    def place_of(self, line: int) -> Place:
        """Where a line is that was given out, or the next one."""
        part, beginning = max(entry for entry in self._beginnings if entry[1] <= line)
        self._beginnings = [entry for entry in self._beginnings if entry[0] >= part]
        return replace(self.place, part=part, skip=line - beginning, line=line)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """How lines are read: by their layout, or as JSON objects where there is none."""

    layout: Layout | None
    defaults: Defaults
    keys: RecipientKeys
    now: datetime

    def records(self, lines: Iterator[bytes], first: int) -> Iterator[Record]:
        """The records of these lines."""
        if self.layout is not None:
            yield from csv_files.records(lines, first, self.layout)
            return
        for number, line in enumerate(lines, first):
            yield Record(number=number, lines=1, text=line.decode("utf-8", "replace"))

    def read(self, record: Record) -> Staged | None:
        """What a record says; None where its end has passed. Raises LineError."""
        if self.layout is not None:
            listed = csv_files.read_record(record, self.layout, self.defaults)
        else:
            listed = csv_files.read_row(record.text.encode(), self.defaults)
        return None if listed.until is not None and listed.until <= self.now else self._staged(listed)

    def _staged(self, listed: Listed) -> Staged:
        address = listed.target.address
        erased = (
            address is not None and recipient_hashes.key_of(address) is not None
        )  # our own export of what was erased
        return Staged(
            key=self.keys.of(listed.target),
            tenant=listed.tenant,
            reason=listed.reason,
            address=None if erased else address,
            domain=listed.target.domain,
            types=listed.types,
            classification=listed.classification,
            until=listed.until,
            note=listed.note,
        )


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Import the job's file. Raises JobError where it has lines that cannot be used and none may be passed over."""
    place, report = Place(**job.position), Report(**job.report)
    if place.written:
        return job.report
    place, report = _check(ctx, job, progress, place, report)
    if report.bad and not job.parameters["skip_bad_lines"]:
        raise JobError(
            f"{report.bad} of {report.bad + report.good + report.over} lines cannot be used, so nothing was imported."
            " The job's file lists them; correct them, or let them be passed over.",
            asdict(report),
        )
    return _write(ctx, job, progress, place, report)


def _check(ctx: WorkerContext, job: Job, progress: Progress, place: Place, report: Report) -> tuple[Place, Report]:
    """Read on to the end of the file, staging what is good and noting what is not."""
    total = job.parameters["lines"]
    reading = _reading(ctx, job)
    source = _Input(ctx.engine, job.id, place)
    lines = source.lines()
    if reading.layout is not None and place.line == 1:
        next(lines)
        place, report = replace(place, line=2), replace(report, ignored_columns=list(reading.layout.ignored))
    records = reading.records(lines, place.line)
    while some := list(islice(records, _RECORDS_AT_ONCE)):
        staged, bad, over = _sort(reading, some)
        report = replace(
            report,
            good=report.good + len(staged),
            over=report.over + over,
            bad=report.bad + len(bad),
            bad_lines=[*report.bad_lines, *map(_shown, bad)][:_BAD_LINES_SHOWN],
        )
        following = some[-1].number + some[-1].lines
        place = replace(source.place_of(following), bad_parts=place.bad_parts + bool(bad))
        with ctx.engine.begin() as connection:
            progress.note(connection, min(following - 1, total), total, asdict(place), asdict(report))
            import_staging.stage(connection, job.id, staged)
            if bad:
                number = place.bad_parts - 1
                job_files.write(connection, job.id, job_files.OUTPUT, number, _sheet(bad, first=number == 0))
        progress.give_way()
    return place, report


def _reading(ctx: WorkerContext, job: Job) -> _Reading:
    with ctx.engine.begin() as connection:
        first = job_files.read(connection, job.id, job_files.INPUT, 0) or b""
    layout = None
    if job.parameters["format"] == suppression_jobs.CSV:
        try:
            layout = csv_files.read_header(suppression_jobs.first_line(first))
        except ListError as error:
            raise JobError(str(error)) from None
    defaults = Defaults(
        types=frozenset(map(MailType, job.parameters["types"])),
        reason=SuppressionReason(job.parameters["reason"]),
        tenant=job.parameters["tenant"],
        only_tenant=job.parameters.get("only_tenant"),
    )
    return _Reading(layout=layout, defaults=defaults, keys=ctx.keys, now=datetime.now(UTC))


def _sort(reading: _Reading, records: list[Record]) -> tuple[list[Staged], list[tuple[Record, str]], int]:
    """Those that can be used, those that cannot, with the reason, and how many are over."""
    staged: list[Staged] = []
    bad: list[tuple[Record, str]] = []
    over = 0
    for record in records:
        try:
            line = reading.read(record)
        except LineError as error:
            bad.append((record, str(error)))
            continue
        if line is None:
            over += 1
        else:
            staged.append(line)
    return staged, bad, over


def _write(ctx: WorkerContext, job: Job, progress: Progress, place: Place, report: Report) -> Mapping[str, Any]:
    now, done = datetime.now(UTC), job.parameters["lines"]
    written = replace(place, written=True)
    with ctx.engine.begin() as connection:
        progress.note(connection, done, done, asdict(written), asdict(report))
        entries = added = changed = 0
        united = not job.parameters.get("replace")
        for some in import_staging.in_order(connection, job.id, _WRITTEN_AT_ONCE):
            told = suppressions.add(connection, [_entry(line, job, now) for line in some], now, united=united)
            new = sum(entry.created_at == now for entry in told)
            entries, added, changed = entries + len(some), added + new, changed + len(told) - new
        finished = asdict(replace(report, entries=entries, added=added, changed=changed))
        progress.note(connection, done, done, asdict(written), finished)
    return finished


def _entry(line: Staged, job: Job, now: datetime) -> NewEntry:
    return NewEntry(
        key=line.key,
        address=line.address,
        domain=line.domain,
        reason=line.reason,
        types=line.types,
        origin=SuppressionOrigin.IMPORT,
        since=now,
        tenant=line.tenant,
        until=line.until,
        classification=line.classification,
        actor=job.asked_by,
        note=line.note,
    )


def _shown(bad: tuple[Record, str]) -> Mapping[str, Any]:
    record, problem = bad
    text = record.text.strip("\r\n")[:_LONGEST_TEXT_SHOWN]
    return {
        "line": record.number,
        "problem": csv_files.without_nul(problem),
        "text": csv_files.without_nul(text),
    }


def _sheet(bad: list[tuple[Record, str]], *, first: bool) -> bytes:
    sheet = Sheet(("line", "problem", "text"))
    if first:
        sheet.header()
    for record, problem in bad:
        sheet.line({"line": record.number, "problem": problem, "text": record.text.strip("\r\n")})
    return sheet.take()

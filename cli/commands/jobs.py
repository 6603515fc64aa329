"""`tidings jobs`: long work, watched and cancelled."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec
import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli import context
from cli.context import Workbench
from cli.formatting import pages
from shared.deliveries import jobs as delivery_jobs
from shared.errors import TidingsError
from shared.jobs import files as job_files
from shared.jobs import store as stored
from shared.jobs.store import Advance, Job
from shared.vocabulary import JobState

_MOST = 50
_LOOK_SECONDS = 0.3
_NOBODY_CAME_SECONDS = 15.0
_WITHOUT_BROKER = "memory://"
_COLOURS = {"done": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def _writable(_context: click.Context, _parameter: click.Parameter, output: Path | None) -> Path | None:
    """Known before the work is done, whose result it would lose."""
    if (
        output is not None
        and str(output) != "-"
        and not os.access(output if output.exists() else output.parent, os.W_OK)
    ):
        raise click.BadParameter(f"{str(output)!r} cannot be written.")
    return output


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_writable,
    help="Where to; the screen if not.",
)


@click.group
def jobs() -> None:
    """Watch and cancel long work: imports, exports, erasures, and what providers are asked."""


@jobs.command("list")
@click.option("--kind", help="Only those of this kind, such as import_suppressions.")
@click.option("--state", type=click.Choice([str(state) for state in JobState]))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_jobs(kind: str | None, state: str | None, as_json: bool, data: Path) -> None:
    """List jobs, the newest first."""
    wanted = JobState(state) if state else None
    with context.opened(data) as bench, bench.engine.begin() as connection:
        page = pages.read(
            lambda after, limit: stored.listed(connection, kind=kind, state=wanted, after=after, limit=limit), _MOST
        )
    if as_json:
        click.echo(msgspec.json.encode([_facts(job) for job in page.items]).decode())
        return
    table = Table("job", "kind", "state", "done", "asked for", "by", "")
    for job in page.items:
        asked_at = f"{job.created_at:%Y-%m-%d %H:%M}"
        table.add_row(
            str(job.id), job.kind, _coloured(job.state), _share(job), asked_at, escape(job.asked_by),
            escape(job.error or ""),
        )  # fmt: skip
    console = context.console()
    console.print(table if page.items else "There are no such jobs.")
    if page.next is not None:
        console.print(f"… and older ones; these are the newest {len(page.items)}.")


@jobs.command
@click.argument("job_id", metavar="ID", type=click.UUID)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def show(job_id: UUID, as_json: bool, data: Path) -> None:
    """Show a job: how far it has got, and what it says of itself."""
    with context.opened(data) as bench:
        job = find(bench, job_id)
    if as_json:
        click.echo(msgspec.json.encode(_facts(job)).decode())
    else:
        tell(context.console(), job)


@jobs.command
@click.argument("job_id", metavar="ID", type=click.UUID)
@context.data_option
def cancel(job_id: UUID, data: Path) -> None:
    """Have a job stop. What it did before stays done; an import that has not ended has done nothing."""
    with context.opened(data) as bench:
        before = find(bench, job_id)
        if before.kind == delivery_jobs.ABANDON:
            raise TidingsError(delivery_jobs.NOT_CANCELLABLE)
        with bench.engine.begin() as connection:
            job = stored.cancel(connection, job_id)
            if job is not None and job.is_cancelled and not before.is_cancelled:
                context.audit(connection, "job.cancelled", f"job:{job_id}")
    if job is not None and not job.state.is_over:
        click.echo("The worker that is at it has been asked to stop, and will within seconds.")
    else:
        click.echo(f"The job is {job.state if job else 'gone'}.")


@jobs.command
@click.argument("job_id", metavar="ID", type=click.UUID)
@context.data_option
def wait(job_id: UUID, data: Path) -> None:
    """Wait until workers have done a job. Exits with 1 unless it is done."""
    console = context.console()
    with context.opened(data) as bench:
        job = find(bench, job_id)
        with bar(console, job) as update:
            since = time.monotonic()
            while not (job := find(bench, job_id)).state.is_over:
                update(Advance(done=job.done, total=job.total, position={}, report=job.report))
                if job.state is JobState.QUEUED and time.monotonic() > since + _NOBODY_CAME_SECONDS:
                    console.print("No worker has taken it up yet: is one running?")
                    since = float("inf")
                time.sleep(_LOOK_SECONDS)
    finish(console, job)


@jobs.command
@click.argument("job_id", metavar="ID", type=click.UUID)
@output_option
@context.data_option
def file(job_id: UUID, output: Path | None, data: Path) -> None:
    """Write what a job made to a file: what was exported, or the lines that could not be imported."""
    with context.opened(data) as bench:
        find(bench, job_id)
        if not save(bench, job_id, output):
            raise TidingsError("This job has made no file.")


def find(bench: Workbench, job_id: UUID) -> Job:
    """A job. Raises TidingsError."""
    with bench.engine.begin() as connection:
        job = stored.find(connection, job_id)
    if job is None:
        raise TidingsError(f"There is no job {job_id}; `tidings jobs list` shows those there are.")
    return job


def work(console: Console, bench: Workbench, job_id: UUID) -> Job:
    """Do a job here and now, without a worker, or watch it where one was quicker; the job when it is over.

    Whoever gives up waiting leaves it to the workers.
    """
    # Imported here: a command that does no such work need not load what workers stand on.
    from workers import context as workers_context
    from workers.jobs import runner as working

    job = find(bench, job_id)
    made = workers_context.build(replace(bench.settings, broker_url=bench.settings.broker_url or _WITHOUT_BROKER))
    try:
        with bar(console, job) as update, _silence():
            while not (job := find(bench, job_id)).state.is_over:
                if not working.run_one(made, job_id, update):
                    update(Advance(done=job.done, total=job.total, position={}, report=job.report))
                    time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        console.print(f"The workers go on with it: `tidings jobs show {job_id}`, `tidings jobs cancel {job_id}`.")
        raise
    finally:
        made.close()
    return job


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing is logged meanwhile: what went wrong is in the job, and the screen may be the exported file."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def bar(console: Console, job: Job) -> Iterator[Callable[[Advance], None]]:
    """A progress bar, and what moves it."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(job.kind.replace("_", " "), total=job.total, completed=job.done)
        yield lambda advance: shown.update(task, completed=advance.done, total=advance.total)


def finish(console: Console, job: Job) -> None:
    """Say what became of a job, and exit with 1 unless it is done."""
    tell(console, job)
    if job.state is not JobState.DONE:
        click.get_current_context().exit(1)


def save(bench: Workbench, job_id: UUID, output: Path | None) -> bool:
    """Write what a job made; False if it made nothing. Raises TidingsError where it cannot be written."""
    try:
        return _save(bench, job_id, output)
    except OSError as error:
        if output is None:
            raise
        raise TidingsError(
            f"It cannot be written: {error.strerror}. `tidings jobs file {job_id} -o FILE` writes it elsewhere."
        ) from None


def _save(bench: Workbench, job_id: UUID, output: Path | None) -> bool:
    with bench.engine.begin() as connection:
        parts = job_files.parts(connection, job_id, job_files.OUTPUT)
        first = next(parts, None)
        if first is None:
            return False
        with click.open_file(str(output or "-"), "wb") as target:
            target.write(first)
            for part in parts:
                target.write(part)
    return True


def tell(console: Console, job: Job) -> None:
    """A job, for people."""
    console.print(f"{job.kind} {job.id}: {_coloured(job.state)}, {_share(job)}", highlight=False)
    if job.error:
        console.print(f"  {escape(job.error)}", highlight=False)
    values = {**job.shown_parameters, **job.report}
    bad = values.pop("bad_lines", None)
    for name, value in values.items():
        if value not in (None, [], {}, ""):
            console.print(f"  [bold]{name.replace('_', ' '):>16}[/]  {escape(_words(value))}", highlight=False)
    if bad:
        _tell_bad_lines(console, job, bad)


def _tell_bad_lines(console: Console, job: Job, bad: list[Mapping[str, Any]]) -> None:
    table = Table("line", "what is wrong", "what it says")
    for entry in bad:
        table.add_row(str(entry["line"]), escape(entry["problem"]), escape(entry["text"]))
    console.print(table)
    if job.report["bad"] > len(bad):
        console.print(
            f"… and {job.report['bad'] - len(bad)} more; `tidings jobs file {job.id}` has all of them.", highlight=False
        )


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _share(job: Job) -> str:
    return f"{job.done:,} of {job.total:,}" if job.total is not None else f"{job.done:,}"


def _coloured(state: JobState) -> str:
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else str(state)


def _facts(job: Job) -> dict[str, Any]:
    facts = asdict(job)
    facts["parameters"] = job.shown_parameters
    del facts["position"]
    return facts

"""`tidings jobs`: show, watch and cancel background jobs."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli import context
from cli.context import CommandContext
from cli.formatting import coloured, escape, print_line, read_page
from cli.options import WholeHelpGroup
from shared.deliveries import jobs as delivery_jobs
from shared.errors import TidingsError
from shared.jobs import files as job_files
from shared.jobs import store as stored
from shared.jobs.store import Advance, Job
from shared.jobs.tables import jobs as job_table
from shared.vocabulary import JOB_KINDS, JobState

_LIST_LIMIT = 50
_POLL_SECONDS = 0.3
QUEUED_NOTICE_SECONDS = 15.0
_NO_BROKER_URL = "memory://"
_COLOURS = {"done": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def _writable(_context: click.Context, _parameter: click.Parameter, output: Path | None) -> Path | None:
    """Refuse an unwritable file before the work, whose result would be lost."""
    if (
        output is not None
        and str(output) != "-"
        and not os.access(output if output.exists() else output.parent, os.W_OK)
    ):
        raise click.BadParameter(f"Cannot write to {str(output)!r}.")
    return output


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_writable,
    help="The file to write. Default: standard output.",
)


@click.group(cls=WholeHelpGroup)
def jobs() -> None:
    """Show, watch and cancel background jobs: imports, exports, erasures, replays and provider updates."""


@jobs.command("list")
@click.option("--kind", type=click.Choice(JOB_KINDS), help="Only jobs of this kind.")
@click.option("--state", type=click.Choice([str(state) for state in JobState]), help="Only jobs in this state.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_jobs(kind: str | None, state: str | None, as_json: bool, data: Path) -> None:
    """List jobs, newest first."""
    only = JobState(state) if state else None
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        page = read_page(
            lambda after, limit: stored.list_jobs(connection, kind=kind, state=only, after=after, limit=limit),
            _LIST_LIMIT,
        )
    if as_json:
        click.echo(msgspec.json.encode([_dump_job(job) for job in page.items]).decode())
        return
    console = context.console()
    for job in page.items:
        console.print(f"{job.id}  {job.kind}  {coloured(job.state, _COLOURS)}", highlight=False, soft_wrap=True)
        print_line(
            console,
            "    ",
            f"{_format_progress(job)}; created {job.created_at:%Y-%m-%d %H:%M} by {job.asked_by}".lstrip("; "),
        )
        if job.error:
            print_line(console, "    [red]✗[/] ", job.error)
    if not page.items:
        console.print("No jobs match.")
    if page.next is not None:
        console.print(f"These are the newest {len(page.items)}; there are older ones.")


@jobs.command
@click.argument("named", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def show(named: str, as_json: bool, data: Path) -> None:
    """Show the state, progress and report of a job."""
    with context.open_context(data) as ctx:
        job_id = context.find_id(ctx, job_table, named, noun="job", listing="tidings jobs list")
        job = find_job(ctx, job_id)
    if as_json:
        click.echo(msgspec.json.encode(_dump_job(job)).decode())
    else:
        print_job(context.console(), job)


@jobs.command
@click.argument("named", metavar="ID")
@context.data_option
def cancel(named: str, data: Path) -> None:
    """Cancel a job. Its completed work stays; an unfinished import changes nothing."""
    with context.open_context(data) as ctx:
        job_id = context.find_id(ctx, job_table, named, noun="job", listing="tidings jobs list")
        before = find_job(ctx, job_id)
        if before.kind == delivery_jobs.ABANDON:
            raise TidingsError(delivery_jobs.NOT_CANCELLABLE)
        with ctx.engine.begin() as connection:
            job = stored.cancel(connection, job_id)
            if job is not None and job.is_cancelled and not before.is_cancelled:
                context.audit(connection, "job.cancelled", f"job:{job_id}")
    if job is not None and not job.state.is_over:
        click.echo("The job is being cancelled; its worker stops within seconds.")
    else:
        click.echo(f"The job is {job.state if job else 'deleted'}.")


@jobs.command
@click.argument("named", metavar="ID")
@context.data_option
def wait(named: str, data: Path) -> None:
    """Wait until a job has ended. Exits with 1 unless it succeeded."""
    console = context.console()
    with context.open_context(data) as ctx:
        job_id = context.find_id(ctx, job_table, named, noun="job", listing="tidings jobs list")
        job = find_job(ctx, job_id)
        with progress_bar(console, job) as update:
            since = time.monotonic()
            while not (job := find_job(ctx, job_id)).state.is_over:
                update(Advance(done=job.done, total=job.total, position={}, report=job.report))
                if job.state is JobState.QUEUED and time.monotonic() > since + QUEUED_NOTICE_SECONDS:
                    console.print("No worker has started this job yet. Is a worker running?")
                    since = float("inf")
                time.sleep(_POLL_SECONDS)
    finish(console, job)


@jobs.command
@click.argument("named", metavar="ID")
@output_option
@context.data_option
def file(named: str, output: Path | None, data: Path) -> None:
    """Write the output file of a job: the exported entries, or the lines that an import rejected."""
    with context.open_context(data) as ctx:
        job_id = context.find_id(ctx, job_table, named, noun="job", listing="tidings jobs list")
        find_job(ctx, job_id)
        if not save_output(ctx, job_id, output):
            raise TidingsError("This job has no output file.")


def find_job(ctx: CommandContext, job_id: UUID) -> Job:
    """Return a job. Raises TidingsError if it does not exist."""
    with ctx.engine.begin() as connection:
        job = stored.find(connection, job_id)
    if job is None:
        raise TidingsError(f"There is no job {job_id}. `tidings jobs list` shows all jobs.")
    return job


def run_job(console: Console, ctx: CommandContext, job_id: UUID) -> Job:
    """Run a job in this process, or watch it if a worker already runs it; return the ended job.

    After Ctrl-C the workers continue it.
    """
    # Imported here, so that other commands need not load the workers' modules.
    from workers import context as workers_context
    from workers.jobs import runner as working

    job = find_job(ctx, job_id)
    worker_context = workers_context.build(replace(ctx.settings, broker_url=ctx.settings.broker_url or _NO_BROKER_URL))
    try:
        with progress_bar(console, job) as update, _mute_logs():
            while not (job := find_job(ctx, job_id)).state.is_over:
                if not working.run_one(worker_context, job_id, update):
                    update(Advance(done=job.done, total=job.total, position={}, report=job.report))
                    time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        console.print(
            f"The workers continue this job. See `tidings jobs show {job_id}` and `tidings jobs cancel {job_id}`."
        )
        raise
    finally:
        worker_context.close()
    return job


@contextmanager
def _mute_logs() -> Iterator[None]:
    """Silence the logs: the job records its errors, and the exported file may go to the terminal."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def progress_bar(console: Console, job: Job) -> Iterator[Callable[[Advance], None]]:
    """Show a progress bar; yield the function that updates it."""
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
    """Print the result of a job; exit with 1 unless it succeeded."""
    print_job(console, job)
    if job.state is not JobState.DONE:
        click.get_current_context().exit(1)


def save_output(ctx: CommandContext, job_id: UUID, output: Path | None) -> bool:
    """Write the output of a job; return False if it has none. Raises TidingsError if the file cannot be written."""
    try:
        with ctx.engine.begin() as connection:
            parts = job_files.parts(connection, job_id, job_files.OUTPUT)
            first = next(parts, None)
            if first is None:
                return False
            with click.open_file(str(output or "-"), "wb") as target:
                target.write(first)
                for part in parts:
                    target.write(part)
    except OSError as error:
        if output is None:
            raise
        raise TidingsError(
            f"Cannot write {output}: {error.strerror}. Choose another file with `tidings jobs file {job_id} -o FILE`."
        ) from None
    return True


def print_job(console: Console, job: Job) -> None:
    """Print a job."""
    console.print(f"{job.kind} {job.id}: {coloured(job.state, _COLOURS)}, {_format_progress(job)}", highlight=False)
    if job.error:
        console.print(f"  {escape(job.error)}", highlight=False)
    values = {**job.shown_parameters, **job.report}
    if job.waits_for:
        values |= {"waits_for": job.waits_for, "waits_until": job.waits_until}
    bad, skipped = values.pop("bad_lines", None), values.pop("skipped", None) or []
    for name, value in values.items():
        if value in (None, [], {}, ""):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        text = {"True": "yes", "False": "no"}[text] if isinstance(value, bool) else text
        console.print(f"  [bold]{name.replace('_', ' '):>16}[/]  {escape(text)}", highlight=False)
    for entry in skipped:
        lines = ", ".join(map(str, entry["lines"])) + ("…" if entry["count"] > len(entry["lines"]) else "")
        console.print(f"  skipped {entry['count']} lines {escape(entry['reason'])}: {lines}", highlight=False)
    if not bad:
        return
    table = Table("line", "problem", "text")
    for entry in bad:
        table.add_row(str(entry["line"]), escape(entry["problem"]), escape(entry["text"]))
    console.print(table)
    if job.report["bad"] > len(bad):
        console.print(
            f"… and {job.report['bad'] - len(bad)} more. `tidings jobs file {job.id}` writes all of them.",
            highlight=False,
        )


def _format_progress(job: Job) -> str:
    return f"{job.done:,} of {job.total:,}" if job.total is not None else f"{job.done:,}"


def _dump_job(job: Job) -> dict[str, Any]:
    facts = asdict(job)
    facts |= {"parameters": job.shown_parameters, "waits_for": job.waits_for, "waits_until": job.waits_until}
    del facts["position"]
    return facts

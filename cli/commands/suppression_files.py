"""`tidings suppressions import|export|erase`: work that may take long, done by a job."""

from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import UUID

import click
from rich.console import Console

from cli import context
from cli.commands import jobs
from cli.context import Workbench
from cli.options import OneOf
from shared import targets
from shared.doorbell import JOBS
from shared.erasure.matching import parse_address
from shared.suppression import jobs as suppression_jobs
from shared.suppression import recipient_hashes
from shared.suppression.csv_files import Defaults
from shared.suppression.queries import Wanted
from shared.suppression.recipient_hashes import RecipientKeys
from shared.vocabulary import ALL_MAIL, JobState, MailType, SuppressionReason

types_option = click.option(
    "--type", "types", type=OneOf(MailType), multiple=True, help="Which mail; may be given twice. All, if not given."
)


@click.command("import")
@click.argument("file", type=click.File("rb"))
@types_option
@click.option("--tenant", default="", help="For this tenant, where a line names none.")
@click.option(
    "--reason",
    type=OneOf(SuppressionReason),
    default=SuppressionReason.MANUAL.value,
    show_default=True,
    help="Where a line has none.",
)
@click.option("--skip-bad-lines", is_flag=True, help="Import the others; otherwise one bad line stops all of it.")
@click.option(
    "--replace",
    is_flag=True,
    help="Let a line take the place of what imports said of the same before; otherwise that stays as wide as it is:"
    " for the mail of both, until the later end.",
)
@click.option("--no-wait", is_flag=True, help="Leave it to the workers.")
@context.data_option
def import_file(
    file: IO[bytes],
    types: tuple[MailType, ...],
    tenant: str,
    reason: SuppressionReason,
    skip_bad_lines: bool,
    replace: bool,
    no_wait: bool,
    data: Path,
) -> None:
    """Put a CSV file on the list, all of it or nothing; - is standard input.

    Its first line names the columns: address (or email, recipient) or domain, and if you like types, reason, tenant,
    expires_at, note, classification; others are passed over.
    """
    defaults = Defaults(types=frozenset(types) or ALL_MAIL, reason=reason, tenant=tenant)
    content = file.read()
    with context.opened(data) as bench:
        with bench.engine.begin() as connection:
            job_id = suppression_jobs.ask_import_of_csv(
                connection,
                content,
                defaults,
                skip_bad_lines=skip_bad_lines,
                replace=replace,
                asked_by=context.person(),
                now=datetime.now(UTC),
            )
            context.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.IMPORT)
        _do(bench, job_id, no_wait=no_wait)


@click.command
@jobs.output_option
@click.option("--domain", help="About this domain, or about an address of it.")
@click.option("--reason", type=OneOf(SuppressionReason))
@click.option("--tenant", help="Of this tenant; '' for those that hold for all.")
@click.option("--ended", is_flag=True, help="Also those whose time is over.")
@context.data_option
def export(
    output: Path | None,
    domain: str | None,
    reason: SuppressionReason | None,
    tenant: str | None,
    ended: bool,
    data: Path,
) -> None:
    """Write the list to a CSV file that can be imported again."""
    wanted = Wanted(
        domain=targets.read_domain(domain).domain if domain else None,
        reason=reason,
        tenant=tenant,
        active=None if ended else True,
    )
    console = Console(stderr=True)
    with context.opened(data) as bench:
        with bench.engine.begin() as connection:
            job_id = suppression_jobs.ask_export(connection, wanted, asked_by=context.person(), now=datetime.now(UTC))
            context.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.EXPORT)
        job = jobs.work(console, bench, job_id)
        if job.state is JobState.DONE:
            jobs.save(bench, job_id, output)
    if output is not None or job.state is not JobState.DONE:
        jobs.finish(console, job)


@click.command
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Leave it to the workers.")
@context.data_option
def erase(address: str, yes: bool, no_wait: bool, data: Path) -> None:
    """Erase an address. It stays suppressed if it is.

    Deletes stored requests, captures and files that contain it. States, events and list entries keep a keyed hash.
    """
    meant = parse_address(address)
    if not yes:
        click.confirm(
            f"Erase {meant} everywhere? Stored requests that contain it are deleted. This cannot be undone.", abort=True
        )
    with context.opened(data) as bench:
        keys = keys_of(bench)
        with bench.engine.begin() as connection:
            job_id = suppression_jobs.ask_erasure(
                connection, meant, keys, bench.vault, asked_by=context.person(), now=datetime.now(UTC)
            )
            context.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.ERASE)
        _do(bench, job_id, no_wait=no_wait)


def _do(bench: Workbench, job_id: UUID, *, no_wait: bool) -> None:
    """Do a job here, or leave it to the workers; say what became of it."""
    console = context.console()
    if no_wait:
        bench.ring(JOBS)
        console.print(f"Asked for: `tidings jobs wait {job_id}` waits for it.", highlight=False)
        return
    jobs.finish(console, jobs.work(console, bench, job_id))


def keys_of(bench: Workbench) -> RecipientKeys:
    """By what the list knows recipients."""
    with bench.engine.begin() as connection:
        return recipient_hashes.load(connection, bench.vault)

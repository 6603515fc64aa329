"""`tidings suppressions import|export|erase`: done by jobs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import UUID

import click

from cli import context
from cli.commands import jobs
from cli.context import CommandContext
from cli.formatting import SafeConsole
from cli.options import OneOf, read_data
from shared.addresses import parse_domain
from shared.broker import JOBS
from shared.erasure.matching import parse_address
from shared.suppression import jobs as suppression_jobs
from shared.suppression import recipient_hashes
from shared.suppression.csv_files import Defaults
from shared.suppression.queries import SuppressionFilters
from shared.suppression.recipient_hashes import RecipientHasher
from shared.vocabulary import ALL_MAIL, JobState, MailType, SuppressionReason

types_option = click.option(
    "--type",
    "types",
    type=OneOf(MailType),
    multiple=True,
    help="Which mail; may be given twice. All mail if not given.",
)


@click.command("import")
@click.argument("file", type=click.File("rb"))
@types_option
@click.option("--tenant", default="", help="The tenant for lines that name none.")
@click.option(
    "--reason",
    type=OneOf(SuppressionReason),
    default=SuppressionReason.MANUAL.value,
    show_default=True,
    help="The reason for lines that name none.",
)
@click.option(
    "--skip-bad-lines", is_flag=True, help="Import the good lines; otherwise one bad line stops the whole import."
)
@click.option(
    "--replace",
    is_flag=True,
    help="Replace entries of earlier imports; otherwise such an entry suppresses the mail of both, until the later"
    " end.",
)
@click.option("--no-wait", is_flag=True, help="Leave the job to the workers.")
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
    """Import a CSV file, all of it or nothing; - is standard input.

    Its first line names the columns: address (or email, recipient) or domain; optionally types, reason, tenant,
    expires_at, note, classification. Lists that SendGrid, Postmark, Mailgun, SES, Mailchimp, Brevo and Mailjet export
    are read with their own columns and words. Other columns are ignored.
    """
    defaults = Defaults(types=frozenset(types) or ALL_MAIL, reason=reason, tenant=tenant)
    try:
        content = read_data(file)
    except ValueError as error:
        raise click.UsageError(f"{file.name} cannot be read: {error}.") from None
    with context.open_context(data) as ctx:
        with ctx.engine.begin() as connection:
            job_id = suppression_jobs.create_csv_import(
                connection,
                content,
                defaults,
                skip_bad_lines=skip_bad_lines,
                replace=replace,
                asked_by=context.current_user(),
                now=datetime.now(UTC),
            )
            context.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.IMPORT)
        _run(ctx, job_id, no_wait=no_wait)


@click.command
@jobs.output_option
@click.option("--domain", help="Entries for this domain, or for an address at it.")
@click.option("--reason", type=OneOf(SuppressionReason))
@click.option("--tenant", help="Entries of this tenant; '' for those for all tenants.")
@click.option("--ended", is_flag=True, help="Include expired entries.")
@context.data_option
def export(
    output: Path | None,
    domain: str | None,
    reason: SuppressionReason | None,
    tenant: str | None,
    ended: bool,
    data: Path,
) -> None:
    """Export the list to a CSV file that can be imported again."""
    filters = SuppressionFilters(
        domain=parse_domain(domain).domain if domain else None,
        reason=reason,
        tenant=tenant,
        active=None if ended else True,
    )
    console = SafeConsole(stderr=True)
    with context.open_context(data) as ctx:
        with ctx.engine.begin() as connection:
            job_id = suppression_jobs.create_export(
                connection, filters, asked_by=context.current_user(), now=datetime.now(UTC)
            )
            context.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.EXPORT)
        job = jobs.run_job(console, ctx, job_id)
        if job.state is JobState.DONE:
            jobs.save_output(ctx, job_id, output)
    if output is not None or job.state is not JobState.DONE:
        jobs.finish(console, job)


@click.command
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Leave the job to the workers.")
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
    with context.open_context(data) as ctx:
        hasher = load_hasher(ctx)
        with ctx.engine.begin() as connection:
            job_id = suppression_jobs.create_erasure(
                connection, meant, hasher, ctx.vault, asked_by=context.current_user(), now=datetime.now(UTC)
            )
            context.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.ERASE)
        _run(ctx, job_id, no_wait=no_wait)


def _run(ctx: CommandContext, job_id: UUID, *, no_wait: bool) -> None:
    """Run a job in this process and print its result, or leave it to the workers."""
    console = context.console()
    if no_wait:
        ctx.notify(JOBS)
        console.print(f"The job is queued; `tidings jobs wait {job_id}` waits for it.", highlight=False)
        return
    jobs.finish(console, jobs.run_job(console, ctx, job_id))


def load_hasher(ctx: CommandContext) -> RecipientHasher:
    """Return the hasher of recipients, by whose hashes the list knows them."""
    with ctx.engine.begin() as connection:
        return recipient_hashes.load(connection, ctx.vault)

"""`tidings sources try`: what a mapping, or a source's adapter, makes of a sample body."""

from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from cli import context
from cli.context import load_source
from cli.options import read_data, read_text
from shared.errors import InvalidFieldError, PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.generic import webhook as generic
from shared.providers.generic.mapping import read_mapping
from shared.providers.webhooks.base import WebhookRequest
from shared.sources import service as source_service
from shared.vocabulary import EventType


@click.command("try")
@click.argument("body", type=click.File("rb"))
@click.option("--mapping", help="@FILE with the mapping of a generic source, as YAML or JSON.")
@click.option("--source", "slug", help="A source instead of a mapping: its own adapter and credentials are used.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME:VALUE", help="With --source: a header, to verify the request."
)
@context.data_option
def try_mapping(body: IO[bytes], mapping: str | None, slug: str | None, headers: tuple[str, ...], data: Path) -> None:
    """Show the events that a sample body becomes. BODY is a file, or - for standard input.

    Nothing is stored. Exits with 1 if an event is of an unknown kind or cannot be read.
    """
    if (mapping is None) == (slug is None):
        raise click.UsageError("Give either --mapping or --source.")
    try:
        content = read_data(body)
    except ValueError as error:
        raise click.UsageError(f"{body.name} cannot be read: {error}.") from None
    if slug is not None:
        with context.open_context(data) as ctx:
            source = load_source(ctx, slug)
        if headers:
            pairs = [header.partition(":") for header in headers]
            given = {name.strip().lower(): text.strip() for name, _, text in pairs}
            try:
                request = WebhookRequest(headers=given, body=content)
                source.provider.verify(request, source.credentials, datetime.now(UTC))
            except VerificationError as error:
                click.echo(f"The receiver would refuse it: {error.reason}: {error}", err=True)
            else:
                click.echo("The receiver would accept it.", err=True)
        events = _parse(lambda: source.provider.parse(content, source.credentials))
    else:
        compiled = read_mapping(read_setting("generic", mapping or ""))
        events = _parse(lambda: generic.parse(content, generic.Credentials(mapping=compiled, keys=None)))
    for event in events:
        shown = {name: value for name, value in msgspec.structs.asdict(event).items() if value not in (None, {})}
        del shown["provider_object"]  # the body itself
        click.echo(msgspec.json.encode(shown).decode())
    problems = sum(event.type is EventType.UNKNOWN for event in events)
    click.echo(f"Events: {len(events)}, not understood: {problems}", err=True)
    if problems or not events:
        raise SystemExit(1)


def read_setting(name: str, text: str) -> Any:
    """Return the value of a setting: an object as YAML or JSON, or @FILE to read it from; any other as it is given.

    Raises InvalidFieldError.
    """
    if name not in ("generic", "queue"):
        return text
    try:
        document = read_text(text[1:]) if text.startswith("@") else text
    except ValueError as error:
        raise InvalidFieldError(f"settings.{name}", None, f"{text[1:]} cannot be read: {error}") from None
    return source_service.read_document(f"settings.{name}", document)


def _parse(parse: Any) -> list[Event]:
    try:
        found: list[Event] = parse()
    except PayloadError as error:
        raise InvalidFieldError("body", None, str(error)) from None
    return found

"""Fields of a subscription as options on the command line."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cli.options import OneOf, read_text
from shared import backoff
from shared.vocabulary import PayloadFormat

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--name", help="A label for people."),
    click.option("--source", "sources", multiple=True, help="Only changes of this source; repeatable."),
    click.option("--tenant", help="Only changes of this tenant."),
    click.option("--domain", "recipient_domains", multiple=True, help="Only changes for recipients of this domain."),
    click.option("--tag", "tags", multiple=True, help="Only changes of messages with this tag."),
    click.option(
        "--header", "headers", multiple=True, metavar="NAME=VALUE", help="Sent with every request; @FILE for a secret."
    ),
    click.option("--payload", type=OneOf(PayloadFormat), help="The format of the body."),
    click.option("--timeout", "timeout_s", type=int, help="Seconds for the whole response."),
    click.option(
        "--retries",
        "retry_schedule",
        help=f"Seconds before each retry, such as 0,30,120; or one of {', '.join(backoff.DELIVERY_SCHEDULES)}.",
    ),
    click.option("--rate", "rate_per_second", type=float, help="Maximum requests per second."),
    click.option("--concurrency", type=int, help="Maximum concurrent requests."),
    click.option(
        "--ordered/--unordered", default=None, help="Send changes of one message one after the other, or not."
    ),
    click.option(
        "--include-body-text/--exclude-body-text",
        default=None,
        help="Send the text of inbound mail, or not. It is personal data.",
    ),
)


def options(command: _Command) -> _Command:
    """Add all of these options to a command; none has a default."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, by the names of the API. Raises click.UsageError."""
    fields = {name: value for name, value in given.items() if value is not None and value != ()}
    fields |= {name: list(value) for name, value in fields.items() if isinstance(value, tuple)}
    if "headers" in fields:
        headers = dict[str, str]()
        for text in fields["headers"]:
            name, separator, value = text.partition("=")
            if not separator:
                raise click.UsageError(f"--header should be NAME=VALUE, not {text!r}.")
            try:
                headers[name] = read_text(value[1:]).strip() if value.startswith("@") else value
            except ValueError as error:
                raise click.UsageError(f"{value[1:]} cannot be read: {error}.") from None
        fields["headers"] = headers
    if "retry_schedule" in fields:
        steps = [step.strip() for step in fields["retry_schedule"].split(",") if step.strip()]
        if all(step.isdecimal() for step in steps):  # otherwise it names a schedule
            fields["retry_schedule"] = list(map(int, steps))
    return fields


def read_change(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a change. An empty value removes a filter or a header; a rate of 0 removes the limit."""
    fields = read(given)
    for name in ("sources", "recipient_domains", "tags"):
        if fields.get(name) == [""]:
            fields[name] = []
    if fields.get("tenant") == "":
        fields["tenant"] = None
    if fields.get("rate_per_second") == 0:
        fields["rate_per_second"] = None
    if "headers" in fields:
        fields["headers"] = {name: value or None for name, value in fields["headers"].items()}
    return fields

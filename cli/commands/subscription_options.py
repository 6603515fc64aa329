"""Fields of a subscription as options on the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.options import OneOf
from shared import backoff
from shared.subscriptions.model import Payload

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--name", help="For people."),
    click.option("--source", "sources", multiple=True, help="Only of this source; may be given several times."),
    click.option("--tenant", help="Only of this tenant."),
    click.option("--domain", "recipient_domains", multiple=True, help="Only where the recipient has this domain."),
    click.option("--tag", "tags", multiple=True, help="Only of messages with this tag."),
    click.option(
        "--header", "headers", multiple=True, metavar="NAME=VALUE", help="Sent with every request; @FILE for a secret."
    ),
    click.option("--payload", type=OneOf(Payload), help="The format of what is sent."),
    click.option("--timeout", "timeout_s", type=int, help="Seconds for the whole response."),
    click.option(
        "--retries",
        "retry_schedule",
        help=f"Seconds before each, such as 0,30,120; or one of {', '.join(backoff.DELIVERY_SCHEDULES)}.",
    ),
    click.option("--rate", "rate_per_second", type=float, help="Requests a second at most."),
    click.option("--concurrency", type=int, help="Requests at once at most."),
    click.option(
        "--ordered/--unordered", default=None, help="Send changes of one message one after the other, or not."
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
        fields["headers"] = dict(map(_header, fields["headers"]))
    if "retry_schedule" in fields:
        fields["retry_schedule"] = _schedule(fields["retry_schedule"])
    return fields


def read_change(given: dict[str, Any]) -> dict[str, Any]:
    """Return the same, where an empty value removes a filter or a header, and a rate of 0 the limit."""
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


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise click.UsageError(f"--header should be NAME=VALUE, not {text!r}.")
    if not value.startswith("@"):
        return name, value
    try:
        return name, Path(value[1:]).read_text().strip()
    except OSError as error:
        raise click.UsageError(f"{value[1:]} cannot be read: {error.strerror}.") from None


def _schedule(text: str) -> Sequence[int] | str:
    words = [word.strip() for word in text.split(",") if word.strip()]
    return list(map(int, words)) if all(word.isdecimal() for word in words) else text

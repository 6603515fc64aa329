"""What a subscription is to be like, as options on the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.options import OneOf
from shared.domain.subscription_checks import SCHEDULES
from shared.domain.subscriptions import Payload

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--name", help="For people."),
    click.option("--source", "sources", multiple=True, help="Only of this source; may be given several times."),
    click.option("--tenant", help="Only of this tenant."),
    click.option("--domain", "recipient_domains", multiple=True, help="Only where the recipient is of this domain."),
    click.option("--tag", "tags", multiple=True, help="Only where the message bears this tag."),
    click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Sent along; @FILE for a secret."),
    click.option("--payload", type=OneOf(Payload), help="The form of what is sent."),
    click.option("--timeout", "timeout_s", type=int, help="Seconds for the whole answer."),
    click.option(
        "--retries", "retry_schedule", help=f"Seconds before each, such as 0,30,120; or one of {', '.join(SCHEDULES)}."
    ),
    click.option("--rate", "rate_per_second", type=float, help="At most so many a second."),
    click.option("--concurrency", type=int, help="At most so many at once."),
    click.option("--ordered/--unordered", default=None, help="Changes of one message one after the other, or not."),
)


def options(command: _Command) -> _Command:
    """Give a command all of them; none has a default."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read(given: dict[str, Any]) -> dict[str, Any]:
    """What was said, by the names of the API. Raises click.UsageError."""
    wishes = {name: value for name, value in given.items() if value is not None and value != ()}
    wishes |= {name: list(value) for name, value in wishes.items() if isinstance(value, tuple)}
    if "headers" in wishes:
        wishes["headers"] = dict(map(_header, wishes["headers"]))
    if "retry_schedule" in wishes:
        wishes["retry_schedule"] = _schedule(wishes["retry_schedule"])
    return wishes


def read_change(given: dict[str, Any]) -> dict[str, Any]:
    """The same, where an empty value takes away what there was: a filter, a header, a rate of 0 a limit."""
    wishes = read(given)
    for name in ("sources", "recipient_domains", "tags"):
        if wishes.get(name) == [""]:
            wishes[name] = []
    if wishes.get("tenant") == "":
        wishes["tenant"] = None
    if wishes.get("rate_per_second") == 0:
        wishes["rate_per_second"] = None
    if "headers" in wishes:
        wishes["headers"] = {name: value or None for name, value in wishes["headers"].items()}
    return wishes


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

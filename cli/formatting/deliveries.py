"""How `tidings deliveries` and `tidings diagnose` print deliveries."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import Row

from cli.formatting import escape
from shared.deliveries import explain

_COLOURS: Final = {"delivered": "green", "retry": "yellow", "dead": "red", "quarantined": "magenta"}
_MAX_BODY: Final = 80


def table(deliveries: Sequence[Row[Any]]) -> Table:
    """Return a table of deliveries (`shared.deliveries.queries.get_page`)."""
    found = Table(
        "delivery", "created", "change", "type", "subscription", "status", "attempts", "next attempt", "last error"
    )
    for delivery in map(explain.render, deliveries):
        found.add_row(
            str(delivery["id"]),
            f"{delivery['created_at']:%Y-%m-%d %H:%M:%S}",
            delivery["webhook_id"],
            delivery["type"],
            escape(delivery["subscription_name"]),
            _status(delivery),
            str(delivery["attempts"]),
            f"{delivery['next_attempt_at']:%Y-%m-%d %H:%M:%S}" if delivery["next_attempt_at"] else "",
            escape(delivery["last_error"] or ""),
        )
    return found


def print_delivery(console: Console, delivery: Mapping[str, Any], attempts: Sequence[Row[Any]]) -> None:
    """Print a delivery (`explain.render_whole`) with its attempts, what they mean, and what to do next."""
    console.print(
        f"{_status(delivery)}: {delivery['type']} {delivery['webhook_id']}"
        f" to {escape(delivery['subscription_name'])} ({delivery['subscription']})",
        highlight=False,
    )
    shows, http_status = delivery["latest_attempt_shows"], delivery["last_http_status"]
    if http_status is not None:
        seen = delivery["last_error"] if delivery["last_error"] and not http_status else f"http_status {http_status}"
        shows = f"{seen} ({shows})"
    lines = {
        "Latest attempt shows": shows,
        "What it usually means": delivery["usually_means"],
        "Next action": delivery["next_action"],
    }
    if delivery["waits_for"]:
        lines["Waits for"] = describe_wait(delivery)
    elif delivery["next_attempt_at"]:
        lines["Next attempt"] = f"{delivery['next_attempt_at']:%Y-%m-%d %H:%M:%S} UTC"
    for name, text in lines.items():
        console.print(f"  [bold]{name:<22}[/] {escape(text)}", highlight=False)
    if not attempts:
        return
    found = Table("attempt", "at", "status", "http_status", "ms", "response")
    for attempt in attempts:
        response = attempt.response_capture
        text = response.get("network_error") or " ".join(str(response.get("body", "")).split())
        is_cut = len(text) > _MAX_BODY or response.get("truncated")
        found.add_row(
            str(attempt.number),
            f"{attempt.created_at:%Y-%m-%d %H:%M:%S}",
            attempt.status,
            str(attempt.http_status),
            str(attempt.latency_ms),
            escape(text[:_MAX_BODY]) + ("…" if is_cut else ""),
        )
    console.print(found)


def describe_wait(waiting: Mapping[str, Any]) -> str:
    """Return what something waits for, and until when: `waits_for` and `waits_until` in a line."""
    until = waiting["waits_until"]
    return f"{waiting['waits_for']}" + (f" (until {until:%Y-%m-%d %H:%M:%S} UTC)" if until else "")


def _status(delivery: Mapping[str, Any]) -> str:
    colour = _COLOURS.get(delivery["status"])
    return f"[{colour}]{delivery['status']}[/]" if colour else str(delivery["status"])

"""How `tidings deliveries` and `tidings diagnose` tell of deliveries."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared import delivery_cases
from shared.db.delivery_lists import AttemptFacts, DeliveryFacts
from shared.delivery_cases import Case

_COLOURS = {"delivered": "green", "retry": "yellow", "dead": "red", "quarantined": "magenta"}
_LONGEST_BODY = 80


def table(deliveries: Sequence[DeliveryFacts]) -> Table:
    """Deliveries, one a line."""
    found = Table(
        "delivery", "made", "change", "type", "subscription", "status", "attempts", "next attempt", "last error"
    )
    for delivery in deliveries:
        found.add_row(
            str(delivery.id),
            f"{delivery.created_at:%Y-%m-%d %H:%M:%S}",
            delivery_cases.webhook_id(delivery),
            delivery.type,
            escape(delivery.subscription_name),
            _status(delivery),
            str(delivery.attempts),
            f"{delivery.next_attempt_at:%Y-%m-%d %H:%M:%S}" if delivery.next_attempt_at else "",
            escape(delivery.last_error or ""),
        )
    return found


def tell(console: Console, case: Case, attempts: Sequence[AttemptFacts]) -> None:
    """What became of a delivery, what that means, and what to do next."""
    delivery = case.delivery
    console.print(
        f"{_status(delivery)}: {delivery.type} {delivery_cases.webhook_id(delivery)}"
        f" to {escape(delivery.subscription_name)} ({delivery.subscription})",
        highlight=False,
    )
    shown = {
        "Latest attempt shows": _shows(case),
        "What it usually means": case.advice.meaning,
        "Next action": case.advice.action,
    }
    for name, text in shown.items():
        console.print(f"  [bold]{name:<22}[/] {escape(text)}", highlight=False)
    if delivery.next_attempt_at:
        console.print(
            f"  [bold]{'Next attempt':<22}[/] {delivery.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC", highlight=False
        )
    if attempts:
        console.print(_attempts(attempts))


def plain(case: Case, attempts: Sequence[AttemptFacts]) -> dict[str, Any]:
    """The same for programs."""
    return {
        **asdict(case.delivery),
        "webhook_id": delivery_cases.webhook_id(case.delivery),
        "change": case.change,
        "latest_attempt_shows": case.advice.shows,
        "usually_means": case.advice.meaning,
        "next_action": case.advice.action,
        "attempts_made": [asdict(attempt) for attempt in attempts],
    }


def _shows(case: Case) -> str:
    status, error = case.delivery.last_http_status, case.delivery.last_error
    if status is None:
        return case.advice.shows
    said = error if error and not status else f"http_status {status}"
    return f"{said} ({case.advice.shows})"


def _attempts(attempts: Sequence[AttemptFacts]) -> Table:
    found = Table("attempt", "at", "status", "http_status", "ms", "response")
    for attempt in attempts:
        response = attempt.response_capture
        text = response.get("network_error") or " ".join(str(response.get("body", "")).split())
        more = len(text) > _LONGEST_BODY or response.get("truncated")
        found.add_row(
            str(attempt.number),
            f"{attempt.created_at:%Y-%m-%d %H:%M:%S}",
            attempt.status,
            str(attempt.http_status),
            str(attempt.latency_ms),
            escape(text[:_LONGEST_BODY]) + ("…" if more else ""),
        )
    return found


def _status(delivery: DeliveryFacts) -> str:
    colour = _COLOURS.get(delivery.status)
    return f"[{colour}]{delivery.status}[/]" if colour else str(delivery.status)

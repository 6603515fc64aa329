"""How `tidings deliveries` and `tidings diagnose` print deliveries."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from sqlalchemy import Row

from cli.formatting import coloured, print_line
from shared.deliveries import explain

_COLOURS: Final = {"delivered": "green", "retry": "yellow", "dead": "red", "quarantined": "magenta"}
_MAX_BODY: Final = 80
_MAX_CAPTURE: Final = 400


def print_list(console: Console, deliveries: Sequence[Row[Any]]) -> None:
    """Print deliveries (`shared.deliveries.queries.get_page`): the id on a line, the details on others."""
    for delivery in map(explain.render, deliveries):
        console.print(
            f"{delivery['id']}  {coloured(delivery['status'], _COLOURS)}  {delivery['type']}",
            highlight=False,
            soft_wrap=True,
        )
        attempts = f"{delivery['attempts']} attempt{'s' if delivery['attempts'] != 1 else ''}"
        to = f"to {delivery['subscription_name']}, created {delivery['created_at']:%Y-%m-%d %H:%M:%S}, {attempts}"
        if delivery["next_attempt_at"]:
            to += f", next {delivery['next_attempt_at']:%Y-%m-%d %H:%M:%S}"
        print_line(console, "    ", f"{to}; webhook-id {delivery['webhook_id']}")
        if delivery["last_error"]:
            print_line(console, "    [red]✗[/] ", delivery["last_error"])
    if not deliveries:
        console.print("No such delivery was found.")


def print_delivery(console: Console, delivery: Mapping[str, Any], attempts: Sequence[Row[Any]]) -> None:
    """Print a delivery (`explain.render_whole`) with its attempts, what they mean, and what to do next."""
    console.print(
        f"{delivery['id']}  {coloured(delivery['status'], _COLOURS)}  {delivery['type']}",
        highlight=False,
        soft_wrap=True,
    )
    to = f"to {delivery['subscription_name']}, subscription {delivery['subscription']}"
    print_line(console, "    ", f"{to}; webhook-id {delivery['webhook_id']}")
    data = delivery["change"]["data"] if delivery["change"] else {}
    message = data.get("message") or {}
    about = {
        "Recipient": data.get("recipient"),
        "Subject": message.get("subject"),
        "Message-Id": message.get("smtp_id"),
    }
    shows, http_status = delivery["latest_attempt_shows"], delivery["last_http_status"]
    if http_status is not None:
        seen = delivery["last_error"] if delivery["last_error"] and not http_status else f"http_status {http_status}"
        shows = f"{seen} ({shows})"
    lines = {
        **{name: value for name, value in about.items() if value},
        "Latest attempt shows": shows,
        "What it usually means": delivery["usually_means"],
        "Next action": delivery["next_action"],
    }
    if delivery["waits_for"]:
        lines["Waits for"] = describe_wait(delivery)
    elif delivery["next_attempt_at"]:
        lines["Next attempt"] = f"{delivery['next_attempt_at']:%Y-%m-%d %H:%M:%S} UTC"
    for name, text in lines.items():
        print_line(console, f"  [bold]{name:<22}[/] ", text)
    for attempt in attempts:
        line = f"attempt {attempt.number}  {attempt.created_at:%Y-%m-%d %H:%M:%S}  {attempt.status}"
        console.print(f"{line}  http_status {attempt.http_status}  {attempt.latency_ms} ms", highlight=False)
        response = attempt.response_capture
        text = response.get("network_error") or " ".join(str(response.get("body", "")).split())
        is_cut = len(text) > _MAX_BODY or response.get("truncated")
        if text:
            print_line(console, "    ", text[:_MAX_BODY] + ("…" if is_cut else ""))
    if attempts:
        _print_captures(console, attempts[0])


def _print_captures(console: Console, attempt: Row[Any]) -> None:
    """Print what the latest attempt sent and received, and say what of it was not kept."""
    request, response = attempt.request_capture, attempt.response_capture
    if not request:
        console.print("What was sent is no longer stored: it contained an address that was erased.")
        return
    print_line(console, "  [bold]Sent[/] ", f"{request['method']} {request['url']}")
    for name, value in request["headers"].items():
        print_line(console, "    ", f"{name}: {value}")
    print_line(console, "    ", _cut(request["body"]) or "(no body)")
    if request["truncated"]:
        kept = len(request["body"].encode())
        console.print(
            f"    truncated: the first {kept} of {request['original_bytes']} bytes are stored", highlight=False
        )
    print_line(console, "  [bold]Received[/] ", response.get("network_error") or f"status {response['status']}")
    for name, value in response.get("headers", {}).items():
        print_line(console, "    ", f"{name}: {value}")
    if text := response.get("body"):
        print_line(console, "    ", _cut(text))
    if response.get("truncated"):
        console.print("    truncated: more was received than is stored")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    more = "… (the whole of it with --json)"
    return line if len(line) <= _MAX_CAPTURE else line[:_MAX_CAPTURE] + more


def describe_wait(waiting: Mapping[str, Any]) -> str:
    """Return what something waits for, and until when: `waits_for` and `waits_until` in a line."""
    until = waiting["waits_until"]
    return f"{waiting['waits_for']}" + (f" (until {until:%Y-%m-%d %H:%M:%S} UTC)" if until else "")

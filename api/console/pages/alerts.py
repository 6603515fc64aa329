"""Pages of alerts, alert rules and notification channels."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Blueprint, Response, request
from marshmallow import fields

from api.console.formatting import Entry
from api.console.pages.sources import list_slugs
from api.console.site import call, fetch, go, render
from api.core.errors import ProblemError
from api.resources.alert_channels import Channels, ChannelSecret, ChannelTest, OneChannel
from api.resources.alert_rules import DESCRIPTIONS, AlertRules, OneAlertRule
from api.resources.alerts import Acknowledgement, Alerts, Mute, OneAlert, Unmute
from shared.errors import TidingsError
from shared.notifications.channels import Kind
from shared.rules.schemas import ALERT_SCHEMAS
from shared.vocabulary import AlertKind, Severity

pages = Blueprint("alerts", __name__)

NAVIGATION = (Entry(path="/console/alerts", label="Alerts", icon="bell", resource=Alerts),)

_MAX_HOURS = 24 * 30


@pages.get("/alerts")
def index() -> Response:
    """List alerts, the newest first."""
    return render("alerts/index.html", listing=fetch(Alerts), severities=list(Severity), sources=list_slugs())


@pages.get("/alerts/<identifier:alert_id>")
def show(alert_id: UUID) -> Response:
    """Show an alert: its numbers, what to do, its history, and who was notified."""
    return render("alerts/show.html", alert=call(OneAlert, alert_id=alert_id))


@pages.post("/alerts/<identifier:alert_id>/ack")
def acknowledge(alert_id: UUID) -> Response:
    """Record that the caller handles an alert."""
    call(Acknowledgement, "POST", alert_id=alert_id)
    return go(_back(alert_id), "The alert is acknowledged.")


@pages.post("/alerts/<identifier:alert_id>/mute")
def mute(alert_id: UUID) -> Response:
    """Notify nobody of an alert for some hours, or until a time in UTC."""
    until = request.form.get("until", "").strip()
    if not until:
        hours = max(1, min(request.form.get("hours", type=int) or 1, _MAX_HOURS))
        until = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S")
    muted = call(Mute, "POST", body={"until": f"{until}Z"}, alert_id=alert_id)
    return go(_back(alert_id), f"The alert is muted until {muted.muted_until:%Y-%m-%d %H:%M} UTC.")


@pages.post("/alerts/<identifier:alert_id>/unmute")
def unmute(alert_id: UUID) -> Response:
    """Notify of an alert again."""
    call(Unmute, "POST", alert_id=alert_id)
    return go(_back(alert_id), "The alert is no longer muted.")


@pages.get("/alerts/rules")
def rules() -> Response:
    """List the alert rules."""
    return render("alerts/rules.html", listing=fetch(AlertRules), kinds=list(AlertKind))


@pages.get("/alerts/new-rule")
def new_rule() -> Response:
    """Show the form for a rule of a kind."""
    kind = request.args.get("kind", "")
    return _show_rule({"kind": kind if kind in list(AlertKind) else str(AlertKind.RATE)}, is_new=True)


@pages.post("/alerts/new-rule")
def create_rule() -> Response:
    """Create a rule."""
    return _save_rule(request.form.get("name", "").strip(), is_new=True)


@pages.get("/alerts/rules/<rule_name>")
def rule(rule_name: str) -> Response:
    """Show a rule, and the form that changes it."""
    return _show_rule(call(OneAlertRule, name=rule_name))


@pages.post("/alerts/rules/<rule_name>")
def change_rule(rule_name: str) -> Response:
    """Replace a rule by what the form says."""
    return _save_rule(rule_name)


@pages.post("/alerts/rules/<rule_name>/delete")
def delete_rule(rule_name: str) -> Response:
    """Delete a rule."""
    call(OneAlertRule, "DELETE", name=rule_name)
    return go("/console/alerts/rules", f"The rule {rule_name} was deleted. Its alerts are resolved within a minute.")


@pages.get("/alerts/channels")
def channels() -> Response:
    """List the notification channels."""
    return _show_channels()


@pages.post("/alerts/channels")
def create_channel() -> Response:
    """Create a channel, and show the secret of a webhook once."""
    body = _read_channel()
    body |= {name: request.form.get(name, "").strip() for name in ("name", "kind")}
    made = call(Channels, "POST", body=body)
    return _show_channels(made=made)


@pages.get("/alerts/channels/<name>")
def channel(name: str) -> Response:
    """Show a channel, and the form that changes it."""
    return _show_channel(name)


@pages.post("/alerts/channels/<name>")
def change_channel(name: str) -> Response:
    """Change a channel; an empty URL stays as it is."""
    call(OneChannel, "PATCH", body=_read_channel(), name=name)
    return go(f"/console/alerts/channels/{quote(name)}", "The channel was changed.")


@pages.post("/alerts/channels/<name>/test")
def test_channel(name: str) -> Response:
    """Send a test message, and show what came back."""
    return _show_channel(name, tried=call(ChannelTest, "POST", name=name))


@pages.post("/alerts/channels/<name>/rotate")
def rotate_channel(name: str) -> Response:
    """Give a webhook another secret, and show it once."""
    return _show_channel(name, made=call(ChannelSecret, "POST", name=name))


@pages.post("/alerts/channels/<name>/delete")
def delete_channel(name: str) -> Response:
    """Delete a channel."""
    call(OneChannel, "DELETE", name=name)
    return go("/console/alerts/channels", f"The channel {name} was deleted.")


def _show_rule(shown: Mapping[str, Any], *, is_new: bool = False, problem: str = "") -> Response:
    """Show the form of a rule. Its fields are those of the rule's kind."""
    schema = ALERT_SCHEMAS[AlertKind(shown["kind"])]
    parts = []
    for name, field in schema.fields.items():
        if name in ("name", "kind"):
            continue
        kind = "number"
        choices: list[str] = []
        if isinstance(field, fields.Boolean):
            kind = "flag"
        elif isinstance(field, fields.Enum):
            kind, choices = "choice", [str(word) for word in field.enum]
        elif isinstance(field, fields.List):
            kind = "list"
        parts.append(
            {"name": name, "kind": kind, "choices": choices, "required": field.required, "help": DESCRIPTIONS[name]}
        )
    return render(
        "alerts/rule.html",
        422 if problem else 200,
        rule=shown,
        parts=parts,
        kinds=list(AlertKind),
        is_new=is_new,
        problem=problem,
    )


def _save_rule(name: str, *, is_new: bool = False) -> Response:
    kind = request.form.get("kind", "")
    # The operation refuses an unknown kind, after it has refused callers who may not change rules.
    is_known = kind in list(AlertKind)
    body: dict[str, Any] = {"kind": kind}
    for field_name, field in ALERT_SCHEMAS[AlertKind(kind)].fields.items() if is_known else ():
        text = request.form.get(field_name, "").strip()
        if not text or field_name in ("name", "kind"):
            continue
        if isinstance(field, fields.Boolean):
            body[field_name] = text == "true"
        elif isinstance(field, fields.List):
            body[field_name] = _split(text)
        else:
            body[field_name] = _read_number(text) if isinstance(field, fields.Number) else text
    try:
        if is_new:
            call(AlertRules, "POST", body={**body, "name": name})
        else:
            call(OneAlertRule, "PUT", body=body, name=name)
    except TidingsError as error:
        if not is_known or (isinstance(error, ProblemError) and error.status == HTTPStatus.FORBIDDEN):
            raise
        return _show_rule({**body, "name": name, "origin": "api"}, is_new=is_new, problem=str(error))
    return go(f"/console/alerts/rules/{quote(name)}", "The rule is in force within seconds.")


def _read_number(text: str) -> float | str:
    """Return a typed number. Any other text is returned unchanged, and the schema refuses it."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _read_channel() -> dict[str, Any]:
    """Return the fields of a channel in a form; an empty limit holds for all."""
    body: dict[str, Any] = {"least_severity": request.form.get("least_severity", str(Severity.WARNING))}
    if url := request.form.get("url", "").strip():
        body["url"] = url
    return body | {name: _split(request.form.get(name, "")) or None for name in ("sources", "tenants", "rules")}


def _show_channels(made: Mapping[str, Any] | None = None) -> Response:
    listing = fetch(Channels)
    return render(
        "alerts/channels.html", listing=listing, kinds=list(Kind), severities=list(Severity), made=made, channel=None
    )


def _show_channel(name: str, tried: Mapping[str, Any] | None = None, made: Mapping[str, Any] | None = None) -> Response:
    return render(
        "alerts/channel.html",
        channel=call(OneChannel, name=name),
        severities=list(Severity),
        tried=tried,
        made=made,
    )


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.replace("\n", ",").split(",") if word.strip()]


def _back(alert_id: UUID) -> str:
    return "/console/" if request.form.get("back") == "/console/" else f"/console/alerts/{alert_id}"

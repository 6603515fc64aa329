"""Template filters and functions of the console: times, sizes, ids, icons and states; masking of personal data."""

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from flask import g, has_request_context, request
from markupsafe import Markup, escape

from api.console.site import PERIODS
from api.core.resource import Resource
from shared import json_text
from shared.classification.classify import write_reply
from shared.egress.captures import HIDDEN

_ICONS: Final = Path(__file__).parent / "static/vendor/lucide"
_HIDDEN: Final = "•••"
_NOTHING: Final = "\N{EN DASH}"
_ADDRESS: Final = re.compile(r"([^\s@<>\"'(),;:=]?)[^\s@<>\"'(),;:=]*@(?=[^\s@])")
_KIBIBYTE: Final = 1024
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400

# The colour of each word of the vocabulary; other words are neutral. The word itself is always shown too.
TONES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("delivered", "seen", "processed", "success", "done", "active", "resolved", "ok", "good", "sent", "inbound",
         "opened", "clicked", "read", "subscribed"), "good"),
    **dict.fromkeys(
        ("deferred", "held", "rate_limited", "retry", "warning", "paused", "unverified", "quarantined", "note",
         "suppressed", "set_aside", "partly_seen", "partly_rejected", "unsubscribed", "running", "never_seen",
         "domain_dns_error", "send_limit_approaching", "foreign_account", "unknown"), "warn"),
    **dict.fromkeys(
        ("bounced", "failed", "rejected", "dead", "critical", "disabled", "firing", "fault", "complained",
         "send_limit_exceeded", "attention"), "bad"),
}  # fmt: skip
_ICON_OF_TONE: Final = {"good": "circle-check", "warn": "triangle-alert", "bad": "circle-x", "": "circle-dot"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the navigation. It is shown to those who may read the resource."""

    path: str
    label: str
    icon: str
    resource: type[Resource]


class Typed(str):
    """Text that the reader typed: it is not masked."""

    __slots__ = ()


def mask(value: Any) -> Any:
    """Return a value for a template. Addresses in it are masked for a reader who may not see them."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup | Typed) and "@" in value and is_masked():
        return _ADDRESS.sub(rf"\1{_HIDDEN}@", value)
    return value


def is_masked() -> bool:
    """Return whether the reader sees personal data masked."""
    return has_request_context() and (visit := g.get("visit")) is not None and visit.is_masked


def personal(value: Any) -> Any:
    """Return personal text in which nothing marks the personal part, such as a subject; hidden if it must be masked."""
    return _HIDDEN if value and is_masked() else value


@cache
def icon(name: str, label: str = "") -> Markup:
    """Return an icon; without a label it is decoration."""
    text = (_ICONS / f"{name}.svg").read_text()
    inner = text[text.index(">", text.index("<svg")) + 1 : text.index("</svg>")].strip()
    attributes = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup(
        '<svg class="icon" {} width="16" height="16" viewBox="0 0 24 24" fill="none" stroke="currentColor"'
        ' stroke-width="2" stroke-linecap="round" stroke-linejoin="round">{}</svg>'
    ).format(attributes, Markup(inner))  # noqa: S704 - a file of ours


PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "alerts show": ("Alert", "/console/alerts/{}"),
    "deliveries list": ("Deliveries", "/console/deliveries"),
    "deliveries replay": ("Replay", "/console/deliveries"),
    "diagnose": ("Message", "/console/messages/{}"),
    "doctor": ("Status", "/console/status"),
    "events": ("Events", "/console/events"),
    "jobs list": ("Jobs", "/console/jobs"),
    "receipts": ("Receipts", "/console/receipts"),
    "reconcile": ("Reconcile now", "/console/sources/{}#provider"),
    "refusals": ("Refusals", "/console/refusals"),
    "reprocess": ("Process again", "/console/receipts"),
    "rules check": ("Rules", "/console/alerts/rules"),
    "sources check": ("Source {}", "/console/sources/{}"),
    "sources enrol": ("Register", "/console/sources/{}#provider"),
    "sources quarantine": ("Verification", "/console/sources/{}#verification"),
    "sources rotate": ("Credentials", "/console/sources/{}#credentials"),
    "sources show": ("Source {}", "/console/sources/{}"),
    "sources validate": ("Send a test", "/console/sources/{}#provider"),
    "sources webhooks": ("At the provider", "/console/sources/{}#provider"),
    "subscriptions change": ("Subscription", "/console/subscriptions/{}"),
    "subscriptions recover": ("Recover", "/console/subscriptions/{}"),
    "subscriptions resume": ("Resume", "/console/subscriptions/{}"),
    "suppressions add": ("Suppress", "/console/suppressions/{}"),
    "suppressions lift": ("Lift", "/console/suppressions/{}"),
    "suppressions pull": ("Lists of providers", "/console/suppression-files"),
    "suppressions why": ("Why", "/console/suppressions/{}"),
    "trace": ("Message", "/console/messages/{}"),
}
"""What the console has in place of a command: the word on the page, and the page. `{}` is what the command is about."""
_OPEN_TO_TENANTS: Final = ("/console/deliveries", "/console/events", "/console/messages", "/console/suppressions")
_NAMING: Final[Mapping[str, str]] = {
    "diagnose": "--message-id", "trace": "--message-id", "reconcile": "--source", "reprocess": "--receipt",
}  # fmt: skip
"""The option that names what a command is about; of other commands it is the first argument."""
_FILTERS: Final[Mapping[str, str]] = {
    "--message-id": "message_id", "--set-aside": "set_aside", "--source": "source", "--state": "state",
    "--status": "status", "--subscription": "subscription",
}  # fmt: skip
"""The options of lists that are filters of their pages."""


def prose(value: Any, *, has_links: bool = True) -> Markup:
    """Return a sentence with what is between backticks as code, and commands as links to the pages for them."""
    write = _write_code if has_links else Markup("<code>{}</code>").format
    parts = str(mask(value)).split("`")
    return Markup("").join(write(part) if at % 2 else part for at, part in enumerate(parts))


def mark_command(text: str) -> str:
    """Return a sentence with the command in it between backticks, for `prose`."""
    return text if "`" in text else re.sub(r"tidings .+?(?=, |$)", r"`\g<0>`", text)


def _write_code(code: str) -> Markup:
    """Return code; or a link, if it is a command and the console has a page for it that the reader may open."""
    plain = Markup("<code>{}</code>").format(code)
    try:
        words = shlex.split(code)
    except ValueError:
        return plain
    name = next((" ".join(words[1:end]) for end in (3, 2) if " ".join(words[1:end]) in PLACES), "")
    if words[:1] != ["tidings"] or not name or (_HIDDEN in code and is_masked()):
        return plain
    label, page = PLACES[name]
    rest = words[1 + len(name.split()) :]
    options = {word: after for word, after in zip(rest, [*rest[1:], ""], strict=False) if word.startswith("--")}
    about = options.get(_NAMING.get(name, "")) or next((word for word in rest[:1] if not word.startswith("--")), "")
    if "{}" in page and not about:
        if not page.startswith("/console/sources/"):
            return plain
        label, page = "Sources", "/console/sources"
    elif "{}" in page or (about and name in ("deliveries replay", "reprocess")):
        page = page.replace("{}", quote(about, safe="@")) if "{}" in page else f"{page}/{quote(about)}"
    else:
        chosen = {_FILTERS[option]: text for option, text in options.items() if option in _FILTERS and text != "all"}
        query = urlencode({key: "true" if key == "set_aside" else text for key, text in chosen.items()})
        page = f"{page}?{query}" if query else page
    if g.visit.caller.tenant and not page.startswith(_OPEN_TO_TENANTS):
        return plain
    return Markup('<a href="{}" title="{}">{}</a>').format(page, code, label.format(about))


def reply(one: Any) -> str:
    """Return what the server said about an event or a recipient: its codes, each once, and its text."""
    status, code, text = (
        one[name] if isinstance(one, Mapping) else getattr(one, name)
        for name in ("smtp_status", "enhanced_code", "reason")
    )
    return write_reply((status, code), text)


def words(value: Any) -> str:
    """Return a word of the vocabulary as people write it."""
    return str(value).replace("_", " ")


def state(value: Any, label: str = "") -> Markup:
    """Return a state as a coloured word with an icon, so that colour is never the only difference."""
    if value is None:
        return Markup('<span class="state">{}</span>').format(_NOTHING)
    tone = TONES.get(str(value), "")
    return Markup('<span class="state {}">{}{}</span>').format(tone, icon(_ICON_OF_TONE[tone]), label or words(value))


def moment(value: datetime | None, empty: str = _NOTHING) -> Markup:
    """Return an instant in UTC, to the second; the browser adds the local time."""
    if value is None:
        return Markup('<span class="quiet">{}</span>').format(empty)
    at = value.astimezone(UTC)
    today = datetime.now(UTC).date() == at.date()
    shown = f"{at:%H:%M:%S}" if today else f"{at:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        at.isoformat().replace("+00:00", "Z"), f"{at:%Y-%m-%d %H:%M:%S}", shown
    )


def full_moment(value: datetime | None, empty: str = _NOTHING) -> Markup:
    """Return an instant with its date and zone; the browser adds the local time beside it."""
    if value is None:
        return Markup('<span class="quiet">{}</span>').format(empty)
    at = value.astimezone(UTC)
    return Markup('<time datetime="{}" data-beside>{} UTC</time>').format(
        at.isoformat().replace("+00:00", "Z"), f"{at:%Y-%m-%d %H:%M:%S}"
    )


def duration(seconds: float | None) -> str:
    """Return a length of time with its one or two largest units."""
    if seconds is None:
        return _NOTHING
    if seconds < _MINUTE:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    unit, name, rest, small = (_HOUR, "h", _MINUTE, "min") if seconds < 2 * _DAY else (_DAY, "d", _HOUR, "h")
    smaller = seconds % unit // rest
    return f"{seconds // unit:.0f} {name}" + (f" {smaller:.0f} {small}" if smaller else "")


def age(value: datetime | None) -> str:
    """Return how long ago an instant was."""
    return "never" if value is None else f"{duration(max(0.0, (datetime.now(UTC) - value).total_seconds()))} ago"


def size(value: int) -> str:
    """Return a number of bytes."""
    return f"{value:,} B" if value < _KIBIBYTE else f"{value / _KIBIBYTE:,.1f} KiB"


def number(value: float | None) -> str:
    """Return a number with separators."""
    return _NOTHING if value is None else f"{value:,}"


def pretty(value: Any) -> str:
    """Return a JSON value over several lines."""
    try:
        # Times and ids as the API writes them.
        text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
        return json.dumps(json_text.read(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return str(value)


def copy(value: Any, shown: Any = None) -> Markup:
    """Return a value with a button that copies it."""
    text = mask(str(value))
    return Markup(
        '<span class="copyable"><code>{}</code><button type="button" class="copy" data-copy="{}"'
        ' aria-label="Copy {}" title="Copy">{}</button></span>'
    ).format(text if shown is None else shown, text, text, icon("copy"))


def copy_as_curl(command: str) -> Markup:
    """Return a button that copies a command."""
    return Markup(
        '<button type="button" class="small ghost scripted" data-copy="{}" title="{}">{}Copy as curl</button>'
    ).format(command, command, icon("copy"))


def curl_list(address: str) -> Markup:
    """Return a button that copies the command which reads a list from the API; the key is a variable of the shell."""
    return copy_as_curl(f'curl -H "Authorization: Bearer $TIDINGS_API_KEY" {shlex.quote(address)}')


def curl_request(capture: Mapping[str, Any]) -> Markup:
    """Return a button that copies the command which sends a captured request again, without its secret headers."""
    arguments = ["curl", "-X", str(capture["method"]), shlex.quote(str(capture["url"]))]
    for name, value in capture["headers"].items():
        if HIDDEN not in value:
            arguments += ["-H", shlex.quote(f"{name}: {value}")]
    command = " ".join([*arguments, "--data-raw", shlex.quote(str(capture["body"]))])
    if capture.get("truncated"):
        command = f"# The request was longer: what is stored of it was cut.\n{command}"
    return copy_as_curl(command)


def link(kind: str, value: Any, shown: Any = None) -> Markup:
    """Return an id as a link to its page, with a button that copies it."""
    text = str(value)
    return Markup(
        '<span class="copyable"><a href="/console/{}/{}"><code>{}</code></a><button type="button" class="copy"'
        ' data-copy="{}" aria-label="Copy {}" title="Copy">{}</button></span>'
    ).format(kind, quote(text), text if shown is None else shown, text, text, icon("copy"))


def with_query(**changes: Any) -> str:
    """Return this page's address with other filters; None removes one. A change of filters shows the first page."""
    kept = {name: value for name, value in request.args.items() if name != "cursor" and value}
    merged = {**kept, **changes}
    query = urlencode({name: value for name, value in merged.items() if value is not None})
    return f"{request.path}?{query}" if query else request.path


def address_path(value: str) -> str:
    """Return the page of an address on the suppression list."""
    return f"/console/suppressions/{quote(value, safe='@')}"


def argument(name: str) -> Typed:
    """Return a filter as it is in the URL."""
    return Typed(request.args.get(name, ""))


def fingerprint(*parts: bytes) -> str:
    """Return a short hash of these bytes."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "age": age, "duration": duration, "full_moment": full_moment, "mark_command": mark_command, "moment": moment,
    "number": number, "personal": personal, "pretty": pretty, "prose": prose, "reply": reply, "size": size,
    "state": state, "words": words,
}  # fmt: skip
GLOBALS: Final[Mapping[str, Any]] = {
    "address_path": address_path, "argument": argument, "copy": copy, "curl_list": curl_list,
    "curl_request": curl_request, "escape": escape, "icon": icon, "link": link,
    "periods": list(PERIODS), "with_query": with_query,
}  # fmt: skip

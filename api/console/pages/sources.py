"""Pages of sources: the connection to each provider, and how to make a new one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, request

from api.console.formatting import Entry
from api.console.site import call, fetch, go, may, render, resolve_times, visit
from api.core.auth import authorize
from api.core.errors import ProblemError, invalid
from api.resources.events import Events
from api.resources.receipts import Refusals
from api.resources.reconciliation import (
    Enrolment,
    FailedDeliveries,
    OneReconciliation,
    ProviderWebhooks,
    ReconciliationJobs,
    Unenrolment,
    WebhookValidation,
)
from api.resources.sources import OneSource, Sources
from shared import json_text
from shared.diagnosis.advice import NAMES
from shared.errors import TidingsError
from shared.operations import status
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import CredentialField, Provider, SourceSettings
from shared.sources import service as source_service
from shared.sources.provider_api import APIS

pages = Blueprint("sources", __name__)

NAVIGATION = (Entry(path="/console/sources", label="Sources", icon="plug", resource=Sources),)

_LABELS = {**NAMES, "standardwebhooks": "Standard Webhooks", "generic": "Any other provider"}

REFUSALS = {
    "unknown_source": "The URL ends with a name that no source has: compare it with the URL below.",
    "missing_signature": "The request was not signed. Switch signing on at the provider; or somebody other than the"
    " provider sent it.",
    "malformed_signature": "The signature does not have this provider's form. Is it the right provider?",
    "bad_signature": "The signature does not match: the key or secret differs from the provider's. Copy it again.",
    "digest_mismatch": "The body differs from what was signed: something between the provider and Tidings changed it.",
    "stale": "The request is too old. Compare the clocks, or the provider repeated an old request.",
    "replayed": "Its signed token was used before with another body, so somebody may repeat old requests.",
    "unconfirmed": "The topic's subscription is not confirmed yet; a worker does that.",
    "unknown_key": "It was signed with a key that Tidings does not have and cannot fetch.",
    "bad_credentials": "The user name or password differs from ours. Copy them again into the URL.",
    "too_large": "The request is larger than TIDINGS_MAX_BODY_BYTES.",
    "empty_body": "The request had no body.",
    "content_encoding": "The body is compressed; switch that off at the provider.",
    "unreadable": "The body is not what this provider sends. Is it the right provider?",
    "quarantine_full": "Too many requests that cannot be verified yet are waiting.",
    "unavailable": "Tidings could not store it; the provider was asked to send it again.",
}
"""What a refusal means, and what to do."""


@pages.get("/sources")
def index() -> Response:
    """List the sources with what each received last."""
    return render("sources/index.html", listing=fetch(Sources), activity=_read_activity())


@pages.get("/sources/new")
def new() -> Response:
    """Show the providers, or the form for one of them, to who may create a source."""
    authorize(visit().caller, Sources.scope_of("POST"), Sources.tenant_access_of("POST"))
    return _show_form(PROVIDERS.get(request.args.get("provider", "")))


@pages.post("/sources/new")
def create() -> Response:
    """Create a source."""
    authorize(visit().caller, Sources.scope_of("POST"), Sources.tenant_access_of("POST"))
    provider = PROVIDERS.get(request.form.get("provider", ""))
    if provider is None:
        raise invalid({"provider": [f"Must be one of {', '.join(sorted(PROVIDERS))}."]})
    slug, base = request.form.get("slug", "").strip(), request.form.get("base", "").strip().rstrip("/")
    settings: dict[str, Any] = {"webhook_url": f"{base}/webhooks/{slug}"} if base else {}
    asked = {name: request.form.get(f"queue.{name}", "").strip() for name in ("url", "region")}
    queue = {name: text for name, text in asked.items() if text}
    try:
        if queue:
            settings["queue"] = queue
        if mapping := request.form.get("generic", "").strip():
            settings["generic"] = source_service.read_document("settings.generic", mapping)
        body = {
            "slug": slug,
            "provider": provider.name,
            "credentials": _read_credentials(provider.credential_fields),
            "settings": settings,
        }
        call(Sources, "POST", body=body)
    except TidingsError as error:
        if isinstance(error, ProblemError) and error.status == HTTPStatus.FORBIDDEN:
            raise
        kept = {name: value for name, value in request.form.items() if not name.startswith("credential.")}
        return _show_form(provider, kept, str(error))
    return go(f"/console/sources/{quote(slug)}", f"The source {slug} is ready for its first event.")


@pages.get("/sources/<slug>")
def show(slug: str) -> Response:
    """Show a source: how to connect it until its first event, and its activity afterwards."""
    source = call(OneSource, slug=slug)
    provider = PROVIDERS.get(source["provider"])
    return render(
        "sources/show.html",
        source=source,
        activity=_read_activity().get(slug),
        provider=provider,
        url=source["settings"].get("webhook_url") or f"https://<your host>{source['webhook_url']}",
        setup=provider.setup.format(slug=slug, path=source["webhook_url"]) if provider else "",
        has_api=source["provider"] in APIS,
        reconciliation=call(OneReconciliation, slug=slug),
        missed=fetch(FailedDeliveries, {"limit": 10}, slug=slug),
        refusals=fetch(Refusals, {"source": slug, "limit": 10}),
        events=fetch(Events, {"source": slug, "limit": 10}),
        meanings=REFUSALS,
        known_settings=list(SourceSettings.__dataclass_fields__),
    )


@pages.post("/sources/<slug>/credentials")
def change(slug: str) -> Response:
    """Change credentials: what is empty stays as it is."""
    source = call(OneSource, slug=slug)
    provider = PROVIDERS[source["provider"]]
    call(OneSource, "PATCH", body={"credentials": _read_credentials(provider.credential_fields)}, slug=slug)
    return go(f"/console/sources/{quote(slug)}", "The credentials were changed.")


@pages.post("/sources/<slug>/settings")
def change_settings(slug: str) -> Response:
    """Change the settings to those of the form, in YAML or JSON."""
    authorize(visit().caller, OneSource.scope_of("PATCH"), OneSource.tenant_access_of("PATCH"))
    # What the page showed, not what is stored: a change that was made since is kept.
    before = source_service.read_document("settings", request.form["before"])
    wanted = source_service.read_document("settings", request.form["settings"])
    if wanted is None:
        wanted = {}
    if not isinstance(before, dict) or not isinstance(wanted, dict):
        raise invalid({"settings": ["Must be an object: the name of each setting, and its value."]})
    call(OneSource, "PATCH", body={"settings": source_service.make_patch(before, wanted)}, slug=slug)
    return go(f"/console/sources/{quote(slug)}", "The settings were changed.")


@pages.post("/sources/<slug>/quarantine")
def quarantine(slug: str) -> Response:
    """Keep requests that fail verification for some hours, instead of refusing them; 0 ends it."""
    hours = max(0, min(request.form.get("hours", type=int) or 0, 72))
    until = (datetime.now(UTC) + timedelta(hours=hours)).isoformat() if hours else None
    call(OneSource, "PATCH", body={"settings": {"quarantine_until": until}}, slug=slug)
    notice = f"Requests that fail verification are kept for {hours} h." if hours else "They are refused again."
    return go(f"/console/sources/{quote(slug)}", notice)


@pages.post("/sources/<slug>/enrol")
def enrol(slug: str) -> Response:
    """Register our webhook at the provider."""
    url = request.form.get("url", "").strip()
    made = call(Enrolment, "POST", body={"url": url} if url else {}, slug=slug)
    notice = "The provider posts to {} from now on." if made["is_new"] else "The provider posted to {} already."
    return go(f"/console/sources/{quote(slug)}", notice.format(made["url"]))


@pages.post("/sources/<slug>/unenrol")
def unenrol(slug: str) -> Response:
    """Remove a webhook at the provider: that of a URL, or ours."""
    url = request.form.get("url", "").strip()
    gone = call(Unenrolment, "POST", body={"url": url} if url else {}, slug=slug)
    return go(f"/console/sources/{quote(slug)}", f"The provider no longer posts to {', '.join(gone['removed'])}.")


@pages.post("/sources/<slug>/webhooks")
def ask_for_webhooks(slug: str) -> Response:
    """Ask the provider which webhooks are registered there."""
    found = call(ProviderWebhooks, slug=slug)["webhooks"]
    ours = sum(one["ours"] for one in found)
    notice = f"Webhooks registered at the provider: {len(found)}, of which {ours} lead to this source."
    return go(f"/console/sources/{quote(slug)}", notice)


@pages.post("/sources/<slug>/validate")
def validate(slug: str) -> Response:
    """Have the provider post a test to our webhook, and say what it was answered."""
    results = call(WebhookValidation, "POST", slug=slug)["results"]
    passed = bool(results) and all(one.passed for one in results)
    notice = "The provider's test arrived." if passed else "The provider's test did not arrive."
    details = [f"{one.url}: {one.detail}" for one in results]
    return go(f"/console/sources/{quote(slug)}", " ".join([notice, *details])[:1500])


@pages.post("/sources/<slug>/reconcile")
def reconcile(slug: str) -> Response:
    """List what the provider could not deliver, and have it sent again, by a job."""
    body: dict[str, Any] = resolve_times({name: value for name in ("since",) if (value := request.form.get(name))})
    body["given_up"] = request.form.get("given_up") == "1"
    job = call(ReconciliationJobs, "POST", body=body, slug=slug)
    return go(f"/console/jobs/{job.id}", "The job asks the provider what it could not deliver.")


@pages.post("/sources/<slug>/delete")
def delete(slug: str) -> Response:
    """Delete a source; what it received stays."""
    call(OneSource, "DELETE", slug=slug)
    return go("/console/sources", f"The source {slug} was deleted. What it received stays.")


def _show_form(provider: Provider | None, given: Mapping[str, str] = {}, problem: str = "") -> Response:
    """Show the providers, and the form for one of them with what was given, and why that was refused."""
    slug = given.get("slug") or "NAME"
    path = f"/webhooks/{slug}"
    return render(
        "sources/new.html",
        422 if problem else 200,
        providers=sorted(
            ((name, _LABELS.get(name, name)) for name in PROVIDERS),
            key=lambda one: (one[0] == "generic", one[1].lower()),
        ),
        provider=provider,
        label=_LABELS.get(provider.name, provider.name) if provider else "",
        setup=provider.setup.format(slug=slug, path=path) if provider else "",
        path=path,
        has_api=provider is not None and provider.name in APIS,
        given=given,
        problem=problem,
    )


def list_slugs() -> list[str]:
    """Return the names of the sources for a filter, or none if the caller may not list them."""
    return [one["slug"] for one in fetch(Sources, {"limit": 500}).items] if may(Sources) else []


def _read_activity() -> dict[str, Any]:
    """Return by slug what each source received last: the part of the status that is about sources, and no more."""
    deps = visit().deps
    with deps.reading.connect() as connection:
        return {one["source"]: one for one in status.read_sources(connection, deps.vault, datetime.now(UTC))}


def _read_credentials(fields: Sequence[CredentialField]) -> dict[str, Any]:
    """Return the credentials of a form; a list is one entry a line, an object is JSON. Raises ProblemError (422)."""
    found: dict[str, Any] = {}
    for field in fields:
        text = request.form.get(f"credential.{field.name}", "").strip()
        if not text:
            continue
        if field.type == "text":
            found[field.name] = text
        elif field.type == "list" and not text.startswith("["):
            found[field.name] = [line.strip() for line in text.replace(",", "\n").splitlines() if line.strip()]
        else:
            try:
                found[field.name] = json_text.read_of_person(text)
            except ValueError as error:
                raise invalid({field.name: [f"The value {error}."]}) from None
    return found

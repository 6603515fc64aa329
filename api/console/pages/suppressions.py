"""Pages of the suppression list: entries with their reasons, checks, imports and exports."""

import json
from urllib.parse import quote

from flask import Blueprint, Response, request

from api.console.formatting import Entry
from api.console.pages.sources import list_slugs
from api.console.site import call, fetch, filters, go, may, render, visit
from api.core.auth import authorize
from api.core.errors import invalid
from api.resources.reconciliation import PullJobs, PushJobs
from api.resources.sources import Sources
from api.resources.suppression_checks import Checks
from api.resources.suppression_files import Exports, Imports
from api.resources.suppressions import OneAddress, Suppressions
from shared.sources.provider_api import APIS
from shared.suppression import provider_sync
from shared.vocabulary import MailType, SuppressionOrigin, SuppressionReason

pages = Blueprint("suppressions", __name__)

NAVIGATION = (Entry(path="/console/suppressions", label="Suppressions", icon="ban", resource=Suppressions),)


@pages.get("/suppressions")
def index() -> Response:
    """List suppressions; `q` is an address, or a domain."""
    return render(
        "suppressions/index.html",
        listing=fetch(Suppressions, _name_target(filters())),
        reasons=list(SuppressionReason),
        origins=list(SuppressionOrigin),
        sources=list_slugs(),
        results=None,
    )


@pages.get("/suppression-files")
def files() -> Response:
    """Show the forms of imports and exports, and how each provider's list differs from ours."""
    sources = fetch(Sources, {"limit": 500}).items if may(PullJobs, "POST") else ()
    usable = [one["slug"] for one in sources if one["provider"] in APIS and one["credentials"].get("api_key")]
    with visit().deps.reading.connect() as connection:
        pulls = {slug: provider_sync.describe_pulls(connection, slug) for slug in usable}
    return render(
        "suppressions/files.html",
        pulls=pulls,
        reasons=list(SuppressionReason),
        may_export=may(Exports, "POST") and not visit().is_masked,
    )


@pages.post("/suppression-files/import")
def import_file() -> Response:
    """Import a file, or pasted lines, by a job, and show its progress."""
    here = visit()
    # Before the file is read, not only when it is imported.
    authorize(here.caller, Imports.scope_of("POST"), Imports.tenant_access_of("POST"))
    request.max_content_length = request.max_form_memory_size = Imports.max_body_bytes["POST"]
    with here.authenticator.share_uploads(here.caller):
        upload = request.files.get("file")
        content = upload.read() if upload is not None and upload.filename else b""
        content = content or request.form.get("lines", "").strip().encode()
    if not content:
        raise invalid({"file": ["Choose a file, or paste lines."]})
    query = {name: value for name in ("reason", "tenant", "types") if (value := request.form.get(name, "").strip())}
    query |= {name: "true" for name in ("skip_bad_lines", "replace") if request.form.get(name) == "1"}
    job = call(Imports, "POST", query=query, file=content)
    return go(f"/console/jobs/{job.id}", "The import has begun.")


@pages.post("/suppression-files/export")
def export_file() -> Response:
    """Export what matches the filters by a job, whose page offers the file."""
    given = {name: value.strip() for name, value in request.form.items() if value.strip()}
    job = call(Exports, "POST", body=_name_target(given))
    return go(f"/console/jobs/{job.id}", "The export has begun. Its file is here when it is done.")


@pages.post("/suppression-files/pull")
def pull() -> Response:
    """Add the entries of a provider's list to ours, or only count the differences."""
    body = {"dry_run": request.form.get("dry_run") == "1"}
    job = call(PullJobs, "POST", body=body, slug=request.form.get("source", ""))
    return go(f"/console/jobs/{job.id}", "The job reads the provider's list.")


@pages.post("/suppression-files/push")
def push() -> Response:
    """Add our entries to a provider's list, or only count the differences."""
    body = {"dry_run": request.form.get("dry_run") == "1"}
    job = call(PushJobs, "POST", body=body, slug=request.form.get("source", ""))
    return go(f"/console/jobs/{job.id}", "The job compares the lists.")


def _name_target(given: dict[str, str]) -> dict[str, str]:
    """Return the filters with `address` or `domain` in place of `q`."""
    wanted = dict(given)
    if text := wanted.pop("q", ""):
        wanted["address" if "@" in text.removeprefix("@") else "domain"] = text
    return wanted


@pages.post("/suppressions/check")
def check() -> Response:
    """Check many addresses, one a line, and show the results in their order."""
    addresses = [line.strip() for line in request.form.get("addresses", "").splitlines() if line.strip()]
    answer = call(Checks, "POST", body={"addresses": addresses})
    return render("suppressions/checked.html", results=json.loads(answer.get_data())["results"])


@pages.post("/suppressions/add")
def add() -> Response:
    """Suppress an address or a domain."""
    target = request.form.get("target", "").strip()
    kind = "address" if "@" in target else "domain"
    types = [value for value in request.form.getlist("types") if value in list(MailType)]
    body = {kind: target, **({"types": types} if types else {})}
    body |= {name: value for name in ("note",) if (value := request.form.get(name, "").strip())}
    call(Suppressions, "POST", body=body)
    name = target if kind == "address" else f"@{target}"
    return go(f"/console/suppressions/{quote(name, safe='@')}", "It is suppressed from now on.")


@pages.get("/suppressions/<path:address>")
def show(address: str) -> Response:
    """Show why an address is suppressed, or is not, with the evidence."""
    return render("suppressions/show.html", address=address, why=call(OneAddress, address=address))


@pages.post("/suppressions/<path:address>/lift")
def lift(address: str) -> Response:
    """Lift the suppression of an address; events until now do not suppress it again."""
    query = {name: value for name in ("reason", "note") if (value := request.form.get(name, "").strip())}
    found = call(OneAddress, "DELETE", query=query, address=address)
    rest = " Another entry still suppresses it." if found["suppressed"] else ""
    return go(f"/console/suppressions/{quote(address, safe='@')}", f"{len(found['lifted'])} lifted.{rest}")

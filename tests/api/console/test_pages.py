"""Every page of the console: tenants, hostile text, masking, headers, sizes, and links that lead somewhere."""

import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from api.console import app as console
from api.console import formatting
from api.console.pages.sources import REFUSALS
from api.core.resource import Deps
from shared.auth.keys import Scope, create_key
from shared.vocabulary import RefusalReason
from tests.support import alerts, http_sink
from tests.support.console import SAME_ORIGIN, Page, rules, sign_in
from tests.support.databases import DatabasePool
from tests.support.system import ADMIN_KEY, BEGIN, HANDLE, LOOPBACK, System, mailchannels_event, open_system
from tests.support.tenants import ALPHA, BRAVO, NOBODY, Tenant, create_tenants

ROOT = Path(__file__).parents[3]
HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "'><svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "</script><script>document.title='owned'</script>",
    "{{ 761 * 1543 }}{% raw %}",
    '" hx-get="/console/logout" hx-trigger="load',
    "</textarea></pre></title><base href=https://evil.example>",
    "\u202eexample\u2066",
)
SELECTED = {"receipts": "reprocess-selected", "deliveries": "replay-selected"}
MAX_FIRST_PAINT_BYTES = 60 * 1024


@pytest.fixture(scope="module")
def system(databases: DatabasePool) -> Iterator[System]:
    with databases.database() as url, open_system(url, begin=BEGIN, egress_allow=LOOPBACK) as system:
        yield system


@pytest.fixture(scope="module")
def tenants(system: System) -> Iterator[dict[str, Tenant]]:
    with http_sink.http_sink() as sink:
        found = create_tenants(system, sink.url)
        _send_hostile_events(system)
        yield found


def _send_hostile_events(system: System) -> None:
    """Store each hostile text in every field that a stranger writes."""
    system.create_source("hostile", customer_handles=[HANDLE])
    for number, text in enumerate(HOSTILE):
        event = mailchannels_event(
            "hard-bounced", f"{text}@x.example", request_id=f"{text}{number}", smtp_id=f"<{text}>"
        )
        system.process_events(
            event | {"email": f"{text}@shop.example", "subject": text, "reason": text, "user_agent": text, "url": text,
                     "campaign_id": text, "status": text, "metadata": {text: text}},
            slug="hostile",
        )  # fmt: skip
        with system.engine.begin() as connection:
            alerts.fire(connection, f"r{number}", summary=text)
        system.queue_body(text.encode(), "hostile", headers=json.dumps({"user-agent": text, text: text}))
        system.execute(
            "INSERT INTO refusals (id, source, refused_at, status_code, reason, detail, headers, bytes)"
            " VALUES (gen_random_uuid(), %(text)s, now(), 404, 'unknown_source', %(text)s, %(headers)s, 1)",
            text=text, headers=json.dumps({text: text}),
        )  # fmt: skip
        system.call("POST", "/v1/suppressions", {"address": f"x{number}@x.example", "note": text})
        system.call("POST", "/v1/keys", {"name": text})
        system.call("POST", "/v1/subscriptions", {"url": "http://127.0.0.1:9/", "types": ["*"], "name": text})
    system.deliver()


def targets(system: System, places: dict[str, str]) -> Iterator[str]:
    """Yield every page that is read, for these objects."""
    for rule in rules(system, "GET"):
        path = rule.rule
        for name in rule.arguments:
            path = re.sub(rf"<(\w+:)?{name}>", places[name], path)
        if rule.endpoint != "console.overview.live":
            yield path


def test_a_tenant_sees_nothing_of_another_on_any_page(system: System, tenants: dict[str, Tenant]) -> None:
    for own, other in ((ALPHA, BRAVO), (BRAVO, ALPHA)):
        client = sign_in(system, tenants[own].key)
        words = tenants[other].words | tenants[NOBODY].words
        shown = 0
        for place in (own, other, NOBODY):
            for path in targets(system, tenants[place].places):
                answer = client.get(path)
                asked = {word for word in words if word in path}
                assert not [word for word in words - asked if word in answer.text], path
                if place != own and asked and "suppressions" not in path:
                    assert answer.status_code in (403, 404), path
                shown += answer.status_code == 200
        assert shown > 10
        for query in (f"q=ann@{other}.example", f"sender=shop@{other}.example", f"recipient=ann@{other}.example"):
            for path in ("messages", "events"):
                answer = client.get(f"/console/{path}?{query}")
                assert not [word for word in tenants[other].ids if word in answer.text]


def test_the_navigation_shows_a_tenant_only_what_it_may_read(system: System, tenants: dict[str, Tenant]) -> None:
    text = sign_in(system, tenants[ALPHA].key).get("/console/").text
    links = set(re.findall(r'<li><a href="(/console/[^"]*)"', text))
    assert links == {
        "/console/", "/console/messages", "/console/events", "/console/suppressions", "/console/subscriptions",
        "/console/deliveries", "/console/jobs",
    }  # fmt: skip


def test_hostile_text_is_only_text_on_every_page(system: System, tenants: dict[str, Tenant]) -> None:
    client = sign_in(system)
    paths = [*targets(system, tenants[NOBODY].places)]
    paths += [f"/console/messages/{one['id']}" for one in system.list_items("/v1/messages", source="hostile")]
    paths += [f"/console/events/{one['id']}" for one in system.list_items("/v1/events", source="hostile")]
    paths += [f"/console/receipts/{one['id']}" for one in system.list_items("/v1/receipts", source="hostile")]
    paths += [f"/console/alerts/{one['id']}" for one in system.list_items("/v1/alerts")]
    paths += [f"/console/subscriptions/{one['id']}" for one in system.list_items("/v1/subscriptions")]
    paths += [f"/console/deliveries/{one['id']}" for one in system.list_items("/v1/deliveries", limit=20)]
    paths += [
        "/console/refusals?limit=100",
        "/console/sources/hostile",
        f"/console/suppressions/{HOSTILE[1]}@x.example",
    ]
    paths += [f"/console/messages?q={HOSTILE[1]}&source={HOSTILE[2]}&since={HOSTILE[0]}", f"/console/{HOSTILE[1]}"]
    for path in paths:
        answer = client.get(path)
        if answer.mimetype != "text/html":
            continue
        assert not Page(answer.text).find_active(), path
        assert "1174223" not in answer.text
    assert len(paths) > 40


@pytest.mark.parametrize("value", [r'"\ud800"', "1e400", "9" * 5000, "[" * 490 + "]" * 490])
def test_json_that_strict_parsers_refuse_is_shown(system: System, tenants: dict[str, Tenant], value: str) -> None:
    event = f'{{"event": "delivered", "customer_handle": "{HANDLE}", "request_id": "odd", "odd": {value}}}'
    receipt_id = system.queue_body(f"[{event}]".encode(), "hostile")
    system.process_receipt(receipt_id)
    (found,) = [one for one in system.get("/v1/events")["items"] if one["receipt_id"] == str(receipt_id)]
    client = sign_in(system)
    for path in (f"receipts/{receipt_id}", f"events/{found['id']}", f"messages/{found['message_id']}"):
        answer = client.get(f"/console/{path}")
        assert answer.status_code == 200, path
        assert "&#34;odd&#34;" in answer.text


def test_a_value_that_is_no_json_is_shown_as_text() -> None:
    assert formatting.pretty({"a": "\ud800"}) == r"{'a': '\ud800'}"
    assert formatting.pretty('{"a": 1e400}') == '{\n  "a": "1e400"\n}'


def test_a_body_that_is_nested_too_deep_is_shown(system: System, tenants: dict[str, Tenant]) -> None:
    for depth in (960, 5000, 100_000):
        receipt_id = system.queue_body(b"[" * depth + b"]" * depth, "hostile")
        assert sign_in(system).get(f"/console/receipts/{receipt_id}").status_code == 200


def test_nul_is_refused_by_name_and_not_taken_for_a_database_that_is_away(
    system: System, tenants: dict[str, Tenant]
) -> None:
    client = sign_in(system)
    same_site = {"Sec-Fetch-Site": "same-origin"}
    for answer in (
        client.get("/console/suppressions/a%00b"),
        client.post("/console/suppressions/a@x.example/lift", data={"note": "a\0"}, headers=same_site),
        client.get("/console/messages?recipient=%00"),
        client.post("/console/login", data={"email": "a\0@x.example", "password": "b"}, headers=same_site),
    ):
        assert answer.status_code in (200, 422), answer.text
        assert "NUL" in answer.text
        assert "cannot be reached" not in answer.text


@pytest.mark.parametrize(
    ("query", "button", "fields"),
    [
        ("source=%20&state=", "Process all dead that match", {}),
        ("source=%20hostile%20&state=dead", "Process all that match", {"source": "hostile", "state": "dead"}),
        ("set_aside=false", "Process all dead that match", {"set_aside": "false"}),
        ("set_aside=true", "Process all that match", {"set_aside": "true"}),
    ],
)
def test_a_bulk_action_has_the_filters_of_its_list(
    system: System, tenants: dict[str, Tenant], query: str, button: str, fields: dict[str, str]
) -> None:
    system.process_events(mailchannels_event("delivered", "a@x.example", customer_handle="stranger"), slug="hostile")
    for number in range(2):
        receipt_id = system.queue_body(b"no JSON %d" % number, "hostile")
        system.execute(
            "WITH gone AS (DELETE FROM pending_receipts WHERE receipt_id = %(id)s RETURNING *)"
            " INSERT INTO parked_receipts"
            " (receipt_id, source_id, state, reason, detail, bytes, available_at, parked_at)"
            " SELECT receipt_id, source_id, 'dead', 'unreadable', '', bytes, now(), now() FROM gone",
            id=receipt_id,
        )
    text = sign_in(system).get(f"/console/receipts?{query}").text
    (form,) = re.findall(r'<form[^>]*action="/console/receipts/reprocess".*?</form>', text, re.DOTALL)
    assert button in form
    assert dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)) == fields


@pytest.mark.parametrize("path", ["receipts", "deliveries"])
def test_a_query_that_is_not_utf8_is_a_page(system: System, tenants: dict[str, Tenant], path: str) -> None:
    query = {"QUERY_STRING": b"source=\xff".decode("latin-1")}
    client = sign_in(system)
    assert client.get(f"/console/{path}", environ_overrides=query).status_code == 200
    answer = client.post(f"/console/{path}/{SELECTED[path]}", environ_overrides=query, headers=SAME_ORIGIN)
    assert answer.headers["Location"].startswith(f"/console/{path}?source=")
    answer = system.client.application.test_client().get(f"/console/{path}", environ_overrides=query)
    assert answer.headers["Location"].startswith("/console/login?next=")


def test_an_id_that_is_none_is_a_page_of_the_console_too(system: System, tenants: dict[str, Tenant]) -> None:
    answer = sign_in(system).get("/console/messages/x")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "There is no page /console/messages/x." in answer.text


def test_a_body_is_downloaded_and_never_shown_as_a_page(system: System, tenants: dict[str, Tenant]) -> None:
    receipt_id = system.queue_body(HOSTILE[0].encode(), "hostile")
    answer = sign_in(system).get(f"/console/receipts/{receipt_id}/raw")
    assert answer.get_data() == HOSTILE[0].encode()
    assert answer.mimetype == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_refusal_leads_to_its_source_only_if_there_is_one(system: System, tenants: dict[str, Tenant]) -> None:
    text = sign_in(system).get("/console/refusals?reason=unknown_source&limit=100").text
    assert "761 * 1543" in text
    assert 'href="/console/sources/{{' not in text


OTHERS_ROWS = (
    "SELECT id::text, t::text FROM subscriptions t WHERE tenant IS DISTINCT FROM %(own)s",
    "SELECT id::text, t::text FROM suppressions t WHERE tenant <> %(own)s",
    (
        "SELECT id::text, t::text FROM deliveries t"
        " WHERE subscription_id NOT IN (SELECT id FROM subscriptions WHERE tenant = %(own)s)"
    ),
    "SELECT id::text, t::text FROM jobs t WHERE tenant IS DISTINCT FROM %(own)s",
    "SELECT id::text, t::text FROM alerts t",
    "SELECT id::text, t::text FROM sources t",
    "SELECT id::text, revoked_at::text FROM api_keys t",
    "SELECT message_id::text, t::text FROM recipient_answers t",
    "SELECT receipt_id::text, t::text FROM pending_receipts t",
)
"""What a tenant must not change: all that is of other tenants, or of none."""


@pytest.mark.parametrize("other", [BRAVO, NOBODY])
def test_a_tenant_changes_nothing_of_another_by_any_action(
    system: System, tenants: dict[str, Tenant], other: str
) -> None:
    client = sign_in(system, tenants[ALPHA].key)
    places = tenants[other].places

    def read() -> list[list[tuple[str, str]]]:
        return [sorted(system.rows(statement, own=ALPHA)) for statement in OTHERS_ROWS]

    before, tried = read(), 0
    form = {
        "id": places["delivery_id"], "subscription": places["subscription_id"], "tenant": other, "slug": places["slug"],
        "name": f"x-{other}", "url": "http://127.0.0.1:9/", "types": "*", "target": f"zoe@{other}.example",
        "addresses": places["address"], "provider": "mailchannels", "since": "24h", "spam": "found", "scope": "admin",
        "hours": "1", "reason": "requested", "note": "x", "until": "1h",
    }  # fmt: skip
    for rule in rules(system, "POST"):
        path = rule.rule
        for name in rule.arguments:
            path = re.sub(rf"<(\w+:)?{name}>", places[name], path)
        answer = client.post(path, data=form, headers=SAME_ORIGIN)
        assert answer.status_code < 500, (path, answer.text)
        if rule.arguments and "address" not in rule.arguments:
            assert answer.status_code in (403, 404), path
        assert not [word for word in tenants[other].ids if word in answer.text and word not in f"{form} {path}"], path
        tried += 1
    assert tried > 20
    for statement, was, now in zip(OTHERS_ROWS, before, read(), strict=True):
        assert was == now, statement


def test_pages_forbid_scripts_styles_and_requests_from_elsewhere(system: System, tenants: dict[str, Tenant]) -> None:
    client = sign_in(system)
    for path in (*targets(system, tenants[ALPHA].places), "/console/nowhere"):
        answer = client.get(path)
        for name, value in console.HEADERS.items():
            assert answer.headers[name] == value, path
        if answer.mimetype == "text/html":
            assert answer.headers["Cache-Control"] == "no-store"
            assert not Page(answer.text).find_active(), path


def test_every_link_of_every_page_leads_to_a_page(system: System, tenants: dict[str, Tenant]) -> None:
    client = sign_in(system)
    known: dict[str, int] = {}
    for path in targets(system, tenants[ALPHA].places):
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.text[:500])
        if answer.mimetype != "text/html":
            continue
        for link in map(html.unescape, re.findall(r'<(?:a|tr)[^>]*?(?:data-)?href="([^"]*)"', answer.text)):
            if link.startswith("/") and link not in known:
                known[link] = client.get(link).status_code
                assert known[link] in (200, 303), f"{path} links to {link}: {known[link]}"
    assert len(known) > 30


def test_the_first_paint_is_small_as_it_is_served_with_many_sources_and_figures(databases: DatabasePool) -> None:
    with databases.database() as url, open_system(url) as system:
        for number in range(30):
            system.create_source(f"source-{number}", customer_handles=[HANDLE])
        system.execute(
            "INSERT INTO minute_counts SELECT 'received', date_trunc('minute', now()) - number * interval '1 minute',"
            " 1, '', '', 0, 1000 * random(), gen_random_uuid() FROM generate_series(1, 119) number"
        )
        client = sign_in(system)
        as_served = {"Accept-Encoding": "gzip"}
        page = client.get("/console/", headers=as_served).get_data()
        files = re.findall(r'(?:src|href)="(/console/static/[^"]*)"', gzip.decompress(page).decode())
        answers = [client.get(name, headers=as_served) for name in files]
    assert len(files) >= 6
    for answer in answers:
        assert "immutable" in answer.headers["Cache-Control"]
    assert sum(map(len, (page, *(answer.get_data() for answer in answers)))) <= MAX_FIRST_PAINT_BYTES


@pytest.mark.parametrize("folder", ["api/console/static/vendor", "tests/support/vendor"])
def test_vendored_files_are_those_of_the_manifest(folder: str) -> None:
    manifest = json.loads((ROOT / folder / "VENDOR.json").read_text())
    listed = {"VENDOR.json"}
    for package in manifest:
        assert {"name", "version", "licence", "integrity"} <= set(package)
        for file in package["files"]:
            assert hashlib.sha256((ROOT / folder / file["file"]).read_bytes()).hexdigest() == file["sha256"]
            listed.add(file["file"])
    found = {str(path.relative_to(ROOT / folder)) for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert found == listed


def test_a_viewer_sees_no_personal_data_if_the_setting_says_so(system: System, tenants: dict[str, Tenant]) -> None:
    with system.engine.begin() as connection:
        viewer, operator = (create_key(connection, str(scope), scope).secret for scope in (Scope.READ, Scope.WRITE))
    masking = replace(system.settings, console_mask=True)
    deps = Deps(settings=masking, engine=system.engine, vault=system.vault, notifier=system.notifier)
    app = create_app(deps)
    clients: dict[str, FlaskClient] = {}
    for key in (viewer, operator):
        clients[key] = app.test_client()
        clients[key].post("/console/login", data={"key": key}, headers={"Sec-Fetch-Site": "same-origin"})
    address = re.compile(r"[\w.+-]{2,}@[\w-]+\.example")
    for path in targets(system, tenants[ALPHA].places):
        if "@" in path:
            continue
        shown = clients[viewer].get(path)
        assert not address.findall(shown.text), path
    assert (
        f"ann@{ALPHA}.example" in clients[operator].get(f"/console/messages/{tenants[ALPHA].places['message_id']}").text
    )
    assert clients[viewer].get(f"/console/receipts/{tenants[ALPHA].places['receipt_id']}/raw").status_code == 403
    assert clients[viewer].get("/console/messages.csv").status_code == 403


def test_what_a_page_shows_can_be_fetched_by_a_program(system: System, tenants: dict[str, Tenant]) -> None:
    client = sign_in(system)
    shown = html.unescape(client.get("/console/messages?status=bounced&source=hostile").text)
    target = re.findall(r"""curl -H "Authorization: Bearer \$TIDINGS_API_KEY" '?http://localhost(/v1/[^'"]*)""", shown)[
        0
    ]
    assert system.get(target)["items"]
    exported = client.get("/console/messages.csv?status=bounced&source=hostile")
    assert exported.mimetype == "text/csv"
    assert exported.text.count("bounced") >= len(HOSTILE)
    for delivery in system.list_deliveries():
        text = html.unescape(client.get(f"/console/deliveries/{delivery['id']}").text)
        if "curl -X POST" in text:
            break
    command = text[text.index("curl -X POST") : text.index("Copy as curl")]
    assert "--data-raw" in command
    assert "webhook-id" in command.lower()
    assert "webhook-signature" not in command.lower()


def test_a_list_says_why_it_is_empty(system: System) -> None:
    client = sign_in(system)
    assert "Nothing matches." in client.get("/console/messages?sender=nobody@nowhere.example").text
    assert "This list could not be read." in client.get("/console/messages?since=yesterday").text
    assert "Must be a time" in client.get("/console/messages?since=yesterday").text
    assert "This list could not be read." in client.get("/console/deliveries?cursor=x").text


def test_an_exact_id_leads_to_its_message(system: System, tenants: dict[str, Tenant]) -> None:
    client = sign_in(system)
    answer = client.get(f"/console/messages?q=request-{ALPHA}")
    assert answer.headers["Location"] == f"/console/messages/{tenants[ALPHA].places['message_id']}"
    assert f"ann@{ALPHA}.example" in client.get(f"/console/messages?q=ann@{ALPHA}.example").text


def test_the_administrator_key_is_enough(system: System) -> None:
    assert sign_in(system, ADMIN_KEY).get("/console/").status_code == 200


def test_every_reason_of_a_refusal_is_explained() -> None:
    assert set(REFUSALS) == set(map(str, RefusalReason))


def test_the_console_has_a_page_for_each_command_that_a_next_step_names() -> None:
    """What is left out has no page: a person tries replies of servers with it."""
    texts = [path.read_text() for part in ("alerts", "diagnosis") for path in (ROOT / "shared" / part).rglob("*.py")]
    named = {found for text in texts for found in re.findall(r"[`\"]tidings ([a-z]+(?: [a-z]+)?)", text)}
    known = {name for command in named for name in formatting.PLACES if command == name or command.startswith(name)}
    assert {one for one in named if not one.startswith(tuple(known))} == {"classify"}


LINKED: dict[str, str | None] = {
    "tidings deliveries replay --status dead --subscription all": "/console/deliveries?status=dead",
    "tidings deliveries replay 0123": "/console/deliveries/0123",
    "tidings events --set-aside --source shop": "/console/events?set_aside=true&source=shop",
    "tidings sources rotate shop": "/console/sources/shop#credentials",
    "tidings sources rotate": "/console/sources",
    "tidings reconcile --source shop": "/console/sources/shop#provider",
    'tidings suppressions lift "ann o\'neill@example.com"': "/console/suppressions/ann%20o%27neill@example.com",
    "tidings reprocess --receipt 0123": "/console/receipts/0123",
    "tidings reprocess --source shop --state all": "/console/receipts?source=shop",
    "tidings suppressions why 'ann": None,
    "tidings": None,
    "settings.sub_accounts": None,
}


def test_a_command_in_a_sentence_is_a_link_to_its_page(databases: DatabasePool) -> None:
    with databases.database() as url, open_system(url, begin=BEGIN) as system:
        with system.engine.begin() as connection:
            alerts.fire(connection, "r", summary=" ".join(f"`{command}`" for command in LINKED))
        elements = Page(sign_in(system).get("/console/").text).elements
        found = {one["title"]: one["href"] for tag, one in elements if tag == "a" and one.get("title") in LINKED}
    assert found == {command: page for command, page in LINKED.items() if page}

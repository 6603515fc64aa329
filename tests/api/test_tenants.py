"""A key of one tenant gives no access to what belongs to another tenant or to none, at any path of the API."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api.core.resource import Resource, blueprint
from tests.support import http_sink, openapi
from tests.support.databases import DatabasePool
from tests.support.system import ADMIN_KEY, BEGIN, LOOPBACK, System, open_system
from tests.support.tenants import ALPHA, BRAVO, NOBODY, Tenant, create_tenants

DOCUMENT = openapi.document()
OPERATIONS = openapi.operations(DOCUMENT)
CLOSED = re.compile(
    r"/v1/(sources|receipts|refusals|erasures|alert|keys|users|sessions|audit|stats|status|doctor|settings)"
)
SAYS_NOTHING = re.compile("refusals|stats|status|doctor|settings|reconciliation|failed-deliveries|stream")
CLOSED_OPERATIONS = {("post", "/v1/messages"), ("post", "/v1/messages/bulk")}


def bodies(other: Tenant) -> dict[tuple[str, str], Any]:
    """For each operation that takes a body one that would do something, to somebody else."""
    at = other.places
    return {
        ("post", "/v1/sources"): {
            "slug": "x", "provider": "mailchannels", "credentials": {"customer_handles": ["x"]},
        },
        ("patch", "/v1/sources/{slug}"): {"credentials": {"customer_handles": ["x"]}},
        ("post", "/v1/sources/{slug}/enrol"): {"url": "https://hooks.example/webhooks/main"},
        ("post", "/v1/sources/{slug}/unenrol"): {},
        ("post", "/v1/sources/{slug}/reconcile"): {},
        ("post", "/v1/sources/{slug}/suppressions/push"): {},
        ("post", "/v1/sources/{slug}/suppressions/pull"): {},
        ("post", "/v1/receipts/reprocess"): {"filter": {"state": "all"}},
        ("post", "/v1/messages"): {
            "source": "main", "request_id": f"request-{other.name}", "sender": "x@example.com",
            "recipients": ["x@example.com"],
        },
        ("post", "/v1/messages/bulk"): {"messages": []},
        ("post", "/v1/messages/{message_id}/answers"): {"answers": {"spam": "found"}},
        ("post", "/v1/subscriptions"): {"url": "http://127.0.0.1:9/x", "types": ["*"], "tenant": other.name},
        ("patch", "/v1/subscriptions/{subscription_id}"): {"name": "x"},
        ("post", "/v1/subscriptions/{subscription_id}/rotate-secret"): {},
        ("post", "/v1/subscriptions/{subscription_id}/test"): {"type": "message.bounced"},
        ("post", "/v1/subscriptions/{subscription_id}/recover"): {"since": "2026-01-01T00:00:00Z"},
        ("post", "/v1/deliveries/replay"): {"filter": {"status": "delivered"}},
        ("post", "/v1/suppressions"): {"address": "x@example.net", "tenant": other.name},
        ("post", "/v1/suppressions/check"): {"addresses": ["x@example.net"], "tenant": other.name},
        ("post", "/v1/suppressions/import"): {"rows": [{"address": "x@example.net", "tenant": other.name}]},
        ("post", "/v1/suppressions/export"): {"tenant": other.name, "active": "any"},
        ("post", "/v1/erasures"): {"address": at["address"]},
        ("post", "/v1/alerts/{alert_id}/mute"): {"until": "2100-01-01T00:00:00Z"},
        ("post", "/v1/alert-rules"): {"name": "x", "kind": "rate"},
        ("put", "/v1/alert-rules/{name}"): {"kind": "rate"},
        ("patch", "/v1/alert-rules/{name}"): {"enabled": False},
        ("post", "/v1/alert-channels"): {"name": "x", "kind": "webhook", "url": "http://127.0.0.1:9/x"},
        ("patch", "/v1/alert-channels/{name}"): {"least_severity": "critical"},
        ("post", "/v1/keys"): {"name": "x", "scope": "admin"},
        ("post", "/v1/users"): {"email": "ann@example.com", "role": "admin"},
        ("patch", "/v1/users/{user_id}"): {"role": "admin"},
    }  # fmt: skip


def queries(other: Tenant) -> dict[str, str]:
    """For each parameter of a query that names something a value that names another's."""
    at = other.places
    return {
        "recipient": f"ann@{other.name}.example", "sender": f"shop@{other.name}.example", "tenant": other.name,
        "request_id": f"request-{other.name}", "smtp_id": f"smtp-{other.name}@x.example",
        "message_id": at["message_id"], "subscription": at["subscription_id"], "address": at["address"],
        "domain": f"{other.name}.example", "source": "main", "cursor": "0-0", "active": "any", "set_aside": "true",
        "sources": "main", "tags": other.name, "recipient_domain": f"{other.name}.example",
        "q": f"ann@{other.name}", "status_code": "2xx", "subject": other.name, "tag": other.name,
        "include_body_text": "true",
    }  # fmt: skip


@pytest.fixture(scope="module")
def system(databases: DatabasePool) -> Iterator[System]:
    with databases.database() as url, open_system(url, begin=BEGIN, egress_allow=LOOPBACK) as system:
        yield system


@pytest.fixture(scope="module")
def tenants(system: System) -> Iterator[dict[str, Tenant]]:
    with http_sink.http_sink() as sink:
        yield create_tenants(system, sink.url)


def ask(
    system: System, key: str, operation: tuple[str, str], about: Tenant, query: dict[str, str] | None = None
) -> TestResponse:
    """One call of an operation, about everything of a tenant's."""
    method, path = operation
    places = about.places | ({"name": f"r-{about.name}"} if "alert-rules" in path else {})
    asked = re.sub(r"\{(\w+)\}", lambda match: places[match[1]], path)
    body = bodies(about).get(operation) if method in ("post", "put", "patch") else None
    if method == "delete" and path == "/v1/suppressions":
        query = {"domain": f"{about.name}.example"}
    system.key = key
    try:
        return system.call(method.upper(), asked, body, **(query or {}))
    finally:
        system.key = ADMIN_KEY


def rows(system: System) -> set[str]:
    """All rows of all tables, as text, but for the notes of when a key was used."""
    tables = system.execute(
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE relkind = 'r' AND nspname = 'public' AND relname NOT IN ('api_keys', 'subscriptions_stamp')"
    )
    statement = " UNION ALL ".join(f"SELECT '{table}: ' || t::text FROM {table} AS t" for (table,) in tables)
    return {row for (row,) in system.execute(statement)}


def response_text(answer: TestResponse, about: Tenant) -> str:
    """What an answer says, without what the request said itself."""
    said = [f"bob@{about.name}.example", f"{about.name}.example"]
    said += about.places.values() if answer.status_code >= 400 else ()
    text = answer.text
    for place in said:
        text = text.replace(place, "")
    return text


def is_closed(operation: tuple[str, str]) -> bool:
    return bool(CLOSED.match(operation[1])) or operation in CLOSED_OPERATIONS


@pytest.mark.parametrize("other", [BRAVO, NOBODY])
@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_a_tenant_gets_and_changes_nothing_of_others(
    system: System, tenants: dict[str, Tenant], operation: tuple[str, str], other: str
) -> None:
    alpha, stranger = tenants[ALPHA], tenants[other]
    foreign = tenants[BRAVO].words | tenants[NOBODY].words
    before = rows(system)
    answer = ask(system, alpha.key, operation, stranger)
    after = rows(system)
    assert not [word for word in foreign if word in response_text(answer, stranger)]
    assert before <= after, "what was there is no longer as it was"
    changed = [row for row in after - before if any(word in row for word in foreign)]
    assert not [row for row in changed if not row.startswith("audit_log: ")]
    assert answer.status_code != 500
    if is_closed(operation):
        assert answer.status_code == 403
        assert "tenant" in answer.get_json()["detail"]
    elif "{" in operation[1] and "{address}" not in operation[1]:
        assert answer.status_code == 404


def of_lists() -> list[tuple[str, str]]:
    """Every parameter of every list that names something."""
    known = {"limit", "since", "until", "types", "wait", "type", "status", "state", "kind", "reason", "origin", "note"}
    return [
        (path, parameter["name"])
        for path, methods in DOCUMENT["paths"].items()
        for parameter in methods.get("get", {}).get("parameters", [])
        if parameter["in"] == "query" and parameter["name"] not in known and not is_closed(("get", path))
    ]


@pytest.mark.parametrize(("path", "name"), of_lists())
def test_no_filter_returns_what_belongs_to_others(
    system: System, tenants: dict[str, Tenant], path: str, name: str
) -> None:
    for other in (BRAVO, NOBODY):
        query = {name: queries(tenants[other])[name]}
        answer = ask(system, tenants[ALPHA].key, ("get", path), tenants[ALPHA], query)
        text = answer.text.replace(query[name], "")
        assert not [word for word in tenants[other].words if word in text]


@pytest.mark.parametrize("operation", [entry for entry in OPERATIONS if entry[0] == "get"], ids=" ".join)
def test_the_admin_key_sees_hidden_data(system: System, tenants: dict[str, Tenant], operation: tuple[str, str]) -> None:
    if operation[1] in ("/v1/diagnosis", "/v1/sources/{slug}/webhooks"):
        pytest.skip("it answers to questions only, or asks the provider")
    query = {"measure": "events"} if operation[1] == "/v1/stats/series" else None
    answer = ask(system, ADMIN_KEY, operation, tenants[BRAVO], query)
    assert answer.status_code == 200
    said = {*tenants[BRAVO].words, *tenants[BRAVO].places.values()}
    if not SAYS_NOTHING.search(operation[1]):
        assert [word for word in said if word in answer.text]


@pytest.mark.parametrize(
    "operation", [entry for entry in OPERATIONS if entry[0] == "get" and not is_closed(entry)], ids=" ".join
)
def test_a_tenant_sees_its_own(system: System, tenants: dict[str, Tenant], operation: tuple[str, str]) -> None:
    query = {"recipient": f"ann@{ALPHA}.example"} if operation[1] == "/v1/diagnosis" else None
    answer = ask(system, tenants[ALPHA].key, operation, tenants[ALPHA], query)
    assert answer.status_code == 200
    alpha = tenants[ALPHA]
    said = {*alpha.words, *alpha.places.values()}
    assert SAYS_NOTHING.search(operation[1]) or [word for word in said if word in answer.text]
    foreign = tenants[BRAVO].words | tenants[NOBODY].words
    assert not [word for word in foreign if word in answer.text]


def test_the_table_of_bodies_is_whole(tenants: dict[str, Tenant]) -> None:
    wanted = {(method, path) for method, path in OPERATIONS if "requestBody" in DOCUMENT["paths"][path][method]}
    assert wanted == set(bodies(tenants[BRAVO]))


def test_that_all_is_suppressed_is_seen_without_the_evidence(system: System, tenants: dict[str, Tenant]) -> None:
    answer = ask(system, tenants[ALPHA].key, ("get", "/v1/suppressions/{address}"), _about(f"ann@{ALPHA}.example"))
    (for_all,) = [entry for entry in answer.get_json()["entries"] if entry["tenant"] is None]
    assert (for_all["reason"], for_all["evidence_event_id"], for_all["note"]) == ("manual", None, None)
    assert BRAVO not in answer.text


def test_an_import_cannot_name_another_tenant(system: System, tenants: dict[str, Tenant]) -> None:
    system.key = tenants[ALPHA].key
    rows = [{"address": "one@example.net", "tenant": BRAVO}, {"address": "two@example.net"}]
    job = system.run_job("POST", "/v1/suppressions/import?skip_bad_lines=true", {"rows": rows})
    system.key = ADMIN_KEY
    assert (job["report"]["entries"], job["report"]["bad"]) == (1, 1)
    added = system.execute("SELECT address, tenant FROM suppressions WHERE origin = 'import'")
    assert [tuple(row) for row in added] == [("two@example.net", ALPHA)]


def test_a_replay_of_everything_is_one_of_its_own(system: System, tenants: dict[str, Tenant]) -> None:
    system.key = tenants[ALPHA].key
    job = system.run_job("POST", "/v1/deliveries/replay", {"filter": {"status": "delivered"}})
    system.key = ADMIN_KEY
    touched = system.execute(
        "SELECT DISTINCT s.name FROM pending_deliveries AS p JOIN subscriptions AS s ON s.id = p.subscription_id"
    )
    assert job["state"] == "done"
    assert [name for (name,) in touched] == [ALPHA]


def test_a_resource_that_does_not_say_what_it_is_to_tenants_is_none(system: System) -> None:
    class Forgetful(Resource):
        rule = "/v1/forgetful"

    with pytest.raises(AttributeError, match="tenancy"):
        blueprint("x", "", (Forgetful,), None, None)  # type: ignore[arg-type]


def _about(address: str) -> Tenant:
    return Tenant("x", "", {"address": address})


def test_a_key_of_a_tenant_is_shown_as_such(system: System, tenants: dict[str, Tenant]) -> None:
    found = {item["name"]: item["tenant"] for item in system.list_items("/v1/keys")}
    assert (found[ALPHA], found[NOBODY]) == (ALPHA, None)


@pytest.mark.parametrize("tenant", [ALPHA, None])
def test_a_subscription_stays_the_tenants_who_has_it(
    system: System, tenants: dict[str, Tenant], tenant: str | None
) -> None:
    path = f"/v1/subscriptions/{tenants[BRAVO].places['subscription_id']}"
    assert system.call("PATCH", path, {"tenant": tenant}).status_code == 422

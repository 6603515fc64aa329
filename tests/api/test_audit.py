"""Every change that a person or a key makes is in the audit log: who, when, what, and no secret."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.auth import audit
from shared.auth.keys import Scope, create_key
from shared.operations import retention as retentions
from simulator.providers.ark.webhooks import Ark
from simulator.server import ProviderServer
from tests.support import alerts, http_sink
from tests.support.databases import DatabasePool
from tests.support.system import ADMIN_KEY, BEGIN, LOOPBACK, System, mailchannels_event, open_system

SECRET = "hunter2-hunter2-hunter2"


@pytest.fixture(scope="module")
def delivering_system(databases: DatabasePool) -> Iterator[System]:
    with databases.database() as url, open_system(url, begin=BEGIN, egress_allow=LOOPBACK) as system:
        yield system


def operations(url: str, places: dict[str, str]) -> list[tuple[str, str, Any]]:
    """Every operation that changes something, in an order in which each can succeed, with its body."""
    source, rule, channel = "/v1/sources/{slug}", "/v1/alert-rules/{rule}", "/v1/alert-channels/{channel}"
    subscription = "/v1/subscriptions/{subscription_id}"
    return [
        ("POST", "/v1/sources", {
            "slug": "shop", "provider": "cloudmailin", "credentials": {"username": "u", "password": SECRET},
        }),
        ("PATCH", source, {"credentials": {"password": SECRET + "2"}}),
        ("POST", "/v1/sources/{enrolled}/enrol", {}),
        ("POST", "/v1/sources/{enrolled}/validate", None),
        ("POST", "/v1/sources/{enrolled}/unenrol", {}),
        ("POST", source + "/reconcile", {}),
        ("POST", source + "/suppressions/push", {}),
        ("POST", source + "/suppressions/pull", {}),
        ("POST", "/v1/receipts/{receipt_id}/reprocess", None),
        ("POST", "/v1/receipts/reprocess", {"filter": {}}),
        ("POST", "/v1/subscriptions", {"url": url, "types": ["*"], "headers": {"X-Token": SECRET}}),
        ("PATCH", subscription, {"name": "x", "headers": {"X-Token": SECRET + "2"}}),
        ("POST", subscription + "/rotate-secret", {}),
        ("POST", subscription + "/pause", None),
        ("POST", subscription + "/resume", None),
        ("POST", subscription + "/test", None),
        ("POST", subscription + "/recover", {"since": "2026-01-01T00:00:00Z"}),
        ("POST", "/v1/deliveries/replay", {"filter": {"status": "dead"}}),
        ("POST", "/v1/deliveries/{delivery_id}/replay", None),
        ("POST", "/v1/suppressions", {"address": "bob@example.net", "note": "bob asked"}),
        ("DELETE", "/v1/suppressions/{address}", None),
        ("POST", "/v1/suppressions", {"domain": "example.org"}),
        ("DELETE", "/v1/suppressions", None),
        ("POST", "/v1/suppressions/import", {"rows": [{"address": "eve@example.net"}]}),
        ("POST", "/v1/suppressions/export", {}),
        ("POST", "/v1/jobs/{job_id}/cancel", None),
        ("POST", "/v1/erasures", {"address": "bob@example.net"}),
        ("POST", "/v1/alerts/{alert_id}/ack", None),
        ("POST", "/v1/alerts/{alert_id}/mute", {"until": "2100-01-01T00:00:00Z"}),
        ("POST", "/v1/alerts/{alert_id}/unmute", None),
        ("POST", "/v1/messages/{message_id}/answers", {"answers": {"spam": "not_found"}}),
        ("POST", "/v1/alert-rules", {"name": "mine", "kind": "rate", "rate": "bounce", "warning": 3}),
        ("PUT", rule, {"kind": "rate", "rate": "bounce", "warning": 4}),
        ("PATCH", rule, {"warning": 5}),
        ("DELETE", rule, None),
        ("POST", "/v1/alert-channels", {"name": "ops", "kind": "webhook", "url": url + "/" + SECRET}),
        ("PATCH", channel, {"least_severity": "critical"}),
        ("POST", channel + "/test", None),
        ("POST", channel + "/rotate-secret", None),
        ("DELETE", channel, None),
        ("POST", "/v1/keys", {"name": "billing"}),
        ("DELETE", "/v1/keys/{key_id}", None),
        ("POST", "/v1/users", {"email": "eve@example.com", "password": SECRET}),
        ("PATCH", "/v1/users/{user_id}", {"role": "admin", "password": SECRET}),
        ("POST", "/v1/users/{user_id}/link", None),
        ("DELETE", "/v1/sessions/{session_id}", None),
        ("DELETE", subscription, None),
        ("DELETE", source, None),
    ]  # fmt: skip


def test_every_operation_that_changes_something_leaves_an_entry(delivering_system: System) -> None:
    system = delivering_system

    system.create_source("main")
    places = {"slug": "shop", "rule": "mine", "channel": "ops", "address": "bob@example.net", "enrolled": "bills"}
    dialect = Ark()
    with http_sink.http_sink() as sink, ProviderServer({"bills": dialect}) as provider:
        settings = {**provider.settings("bills"), "webhook_url": f"{sink.url}/webhooks/bills"}
        system.add_source("bills", "ark", dialect.credentials(), **settings)
        subscription = system.create_subscription(sink.url)
        places["receipt_id"] = str(system.process_events(mailchannels_event("hard-bounced", "bob@example.net")))
        system.deliver()
        places["message_id"] = system.get("/v1/messages")["items"][0]["id"]
        places["delivery_id"] = system.list_deliveries(subscription=subscription["id"])[0]["id"]
        with system.engine.begin() as connection:
            places["alert_id"] = str(alerts.fire(connection))
            made = create_key(connection, "ann", Scope.ADMIN)
            places["key_id"] = str(create_key(connection, "old", Scope.READ).row.id)
        system.key = made.secret
        asked = set()
        try:
            for method, path, body in operations(sink.url, places):
                asked.add((method, re.sub(r"\{(rule|channel)\}", "{name}", path).replace("{enrolled}", "{slug}")))
                before = _entries(system)
                query = {"domain": "example.org"} if path == "/v1/suppressions" and method == "DELETE" else {}
                answer = system.call(method, path.format_map(places), body, **query)
                assert answer.status_code < 300, (method, path, answer.text)
                entries = _entries(system)[len(before) :]
                assert [entry["actor"] for entry in entries] == [f"key:{made.row.id}:ann"], (method, path)
                found = answer.get_json(silent=True) or {}
                if path == "/v1/subscriptions":
                    places["subscription_id"] = found["id"]
                if path == "/v1/users":
                    places["user_id"] = found["id"]
                if path.endswith("/link"):
                    places["session_id"] = system.list_items("/v1/sessions")[0]["id"]
                if path == "/v1/suppressions/export":
                    places["job_id"] = found["id"]
        finally:
            system.key = ADMIN_KEY
    document = system.client.get("/openapi.json").get_json()
    changing = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if method not in ("get", "parameters")
        and path != "/v1/suppressions/check"
        # One per mail or batch of mails, and none of them changes the configuration.
        and (method, path) not in {("post", "/v1/messages"), ("post", "/v1/messages/bulk")}
    }
    assert asked == changing
    written = str(_entries(system))
    assert SECRET not in written
    assert "bob@example.net" not in written, "what is erased would stay in the audit log"


def _entries(system: System) -> list[dict[str, Any]]:
    rows = system.execute("SELECT row_to_json(a) FROM audit_log AS a ORDER BY id")
    return [row for (row,) in rows]


def test_what_failed_leaves_none(system: System) -> None:
    assert system.call("POST", "/v1/keys", {"name": ""}).status_code == 422
    assert system.call("DELETE", "/v1/keys/9").status_code == 404
    assert system.call("DELETE", "/v1/sources/x").status_code == 404
    assert _entries(system) == []


def test_looking_leaves_none(system: System) -> None:
    system.get("/v1/keys")
    system.call("POST", "/v1/suppressions/check", {"addresses": ["a@example.net"]})
    assert _entries(system) == []


def test_it_says_what_was_before_and_after(system: System) -> None:
    system.create_source("main")
    body = {"settings": {"api_base": "https://api.example.com"}, "credentials": {"api_key": SECRET}}
    assert system.call("PATCH", "/v1/sources/main", body).status_code == 200
    (entry, *_) = system.list_items("/v1/audit")
    assert (entry["actor"], entry["action"], entry["object"]) == (
        "key:TIDINGS_ADMIN_KEY", "source.changed", "source:main",
    )  # fmt: skip
    assert entry["details"]["credentials"] == "changed"
    assert entry["details"]["settings"]["after"] == {"api_base": "https://api.example.com"}


def test_entries_can_be_picked(system: System) -> None:
    system.create_source("main")
    system.create_source("other")
    system.call("DELETE", "/v1/sources/other")
    system.call("POST", "/v1/keys", {"name": "billing"})

    def picked(**query: Any) -> list[str]:
        return [entry["action"] for entry in system.list_items("/v1/audit", limit=1, **query)]

    assert picked() == ["key.created", "source.removed", "source.created", "source.created"]
    assert picked(action="source") == ["source.removed", "source.created", "source.created"]
    assert picked(action="source.removed") == ["source.removed"]
    assert picked(object="source:main") == ["source.created"]
    assert picked(object="key") == ["key.created"]
    assert len(picked(actor="key")) == 4
    assert picked(actor="command") == []
    assert picked(until="2026-01-01T00:00:00Z") == []
    assert len(picked(since="2026-01-01T00:00:00Z")) == 4


def test_entries_are_kept_for_400_days_or_twelve_times_the_retention(system: System) -> None:
    system.create_source("main")
    now = datetime.now(UTC)
    with system.engine.begin() as connection:
        for days, retention, gone in ((399, 30, 0), (401, 60, 0), (401, 30, 1)):
            then, kept = now + timedelta(days=days), timedelta(days=retention)
            assert retentions.delete_old_history(connection, then, kept, limit=10)["audit_log"] == gone


def test_much_history_is_deleted_in_small_steps(system: System) -> None:
    for slug in ("a", "b", "c"):
        system.create_source(slug)
    then = datetime.now(UTC) + timedelta(days=500)
    with system.engine.begin() as connection:
        alerts.fire(connection)
        connection.exec_driver_sql("UPDATE alerts SET state = 'resolved', resolved_at = clock_timestamp()")
        gone = [retentions.delete_old_history(connection, then, timedelta(days=30), limit=2) for _ in range(3)]
    assert [entry["audit_log"] for entry in gone] == [2, 1, 0]
    assert [entry["alerts"] for entry in gone] == [1, 0, 0]


def test_what_was_refused_because_it_was_over_leaves_none(system: System) -> None:
    job = system.call("POST", "/v1/suppressions/export", {}).get_json()["id"]
    system.execute("UPDATE jobs SET state = 'done', finished_at = now()")
    with system.engine.begin() as connection:
        alert = alerts.fire(connection)
    system.execute("UPDATE alerts SET state = 'resolved', resolved_at = clock_timestamp()")
    assert system.call("POST", f"/v1/jobs/{job}/cancel").status_code == 409
    assert system.call("POST", f"/v1/alerts/{alert}/ack").status_code == 409
    assert [entry["action"] for entry in _entries(system)] == ["job.asked"]


def test_what_was_done_already_leaves_none(system: System) -> None:
    job = system.call("POST", "/v1/suppressions/export", {}).get_json()["id"]
    with system.engine.begin() as connection:
        alert = alerts.fire(connection)
    for path in (f"/v1/jobs/{job}/cancel", f"/v1/alerts/{alert}/ack"):
        assert [system.call("POST", path).status_code for _ in range(2)] == [200, 200]
    assert [entry["action"] for entry in _entries(system)] == ["job.asked", "job.cancelled", "alert.acknowledged"]


def test_mail_leaves_none(system: System) -> None:
    system.create_source("main")
    message = {"source": "main", "request_id": "r9", "sender": "shop@example.com", "recipients": ["x@example.net"]}
    assert system.call("POST", "/v1/messages", message).status_code == 201
    assert [entry["action"] for entry in _entries(system)] == ["source.created"]


def test_an_entry_is_undone_with_its_change(system: System) -> None:
    with system.engine.connect() as connection:
        audit.record(connection, actor="command:ann", action="source.created", object="source:x")
        connection.rollback()
    assert _entries(system) == []

"""What each key may do: none, a wrong one, one of each scope, and the administrator's."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from shared.auth.keys import Scope
from tests.support.system import ADMIN_KEY, System

NOWHERE = UUID(int=1)
PATHS = {
    ("GET", "/v1/sources"): Scope.READ,
    ("POST", "/v1/sources"): Scope.ADMIN,
    ("GET", "/v1/sources/x"): Scope.READ,
    ("PATCH", "/v1/sources/x"): Scope.ADMIN,
    ("DELETE", "/v1/sources/x"): Scope.ADMIN,
    ("GET", "/v1/sources/x/reconciliation"): Scope.READ,
    ("GET", "/v1/sources/x/failed-deliveries"): Scope.READ,
    ("GET", "/v1/sources/x/webhooks"): Scope.WRITE,
    ("POST", "/v1/sources/x/enrol"): Scope.ADMIN,
    ("POST", "/v1/sources/x/unenrol"): Scope.ADMIN,
    ("POST", "/v1/sources/x/validate"): Scope.WRITE,
    ("POST", "/v1/sources/x/reconcile"): Scope.WRITE,
    ("POST", "/v1/sources/x/suppressions/push"): Scope.WRITE,
    ("POST", "/v1/sources/x/suppressions/pull"): Scope.WRITE,
    ("GET", "/v1/receipts"): Scope.READ,
    ("GET", f"/v1/receipts/{NOWHERE}"): Scope.READ,
    ("GET", f"/v1/receipts/{NOWHERE}/raw"): Scope.READ,
    ("POST", f"/v1/receipts/{NOWHERE}/reprocess"): Scope.WRITE,
    ("POST", "/v1/receipts/reprocess"): Scope.WRITE,
    ("GET", "/v1/refusals"): Scope.READ,
    ("GET", "/v1/messages"): Scope.READ,
    ("POST", "/v1/messages"): Scope.WRITE,
    ("GET", "/v1/messages/export"): Scope.READ,
    ("POST", "/v1/messages/bulk"): Scope.WRITE,
    ("GET", f"/v1/messages/{NOWHERE}"): Scope.READ,
    ("GET", f"/v1/messages/{NOWHERE}/events"): Scope.READ,
    ("GET", f"/v1/messages/{NOWHERE}/recipients"): Scope.READ,
    ("GET", "/v1/events"): Scope.READ,
    ("GET", f"/v1/events/{NOWHERE}"): Scope.READ,
    ("GET", "/v1/changes"): Scope.READ,
    ("GET", "/v1/changes/stream"): Scope.READ,
    ("GET", "/v1/stats"): Scope.READ,
    ("GET", "/v1/stats/series?measure=events"): Scope.READ,
    ("GET", "/v1/suppressions"): Scope.READ,
    ("POST", "/v1/suppressions"): Scope.WRITE,
    ("DELETE", "/v1/suppressions?domain=x"): Scope.WRITE,
    ("GET", "/v1/suppressions/a@example.net"): Scope.READ,
    ("DELETE", "/v1/suppressions/a@example.net"): Scope.WRITE,
    ("POST", "/v1/suppressions/check"): Scope.READ,
    ("POST", "/v1/suppressions/import"): Scope.WRITE,
    ("POST", "/v1/suppressions/export"): Scope.WRITE,
    ("POST", "/v1/erasures"): Scope.ADMIN,
    ("GET", "/v1/users"): Scope.ADMIN,
    ("POST", "/v1/users"): Scope.ADMIN,
    ("PATCH", "/v1/users/0"): Scope.ADMIN,
    ("POST", "/v1/users/0/link"): Scope.ADMIN,
    ("GET", "/v1/sessions"): Scope.ADMIN,
    ("DELETE", "/v1/sessions/0"): Scope.ADMIN,
    ("GET", "/v1/jobs"): Scope.READ,
    ("GET", f"/v1/jobs/{NOWHERE}"): Scope.READ,
    ("GET", f"/v1/jobs/{NOWHERE}/file"): Scope.READ,
    ("POST", f"/v1/jobs/{NOWHERE}/cancel"): Scope.WRITE,
    ("GET", "/v1/alerts"): Scope.READ,
    ("GET", f"/v1/alerts/{NOWHERE}"): Scope.READ,
    ("POST", f"/v1/alerts/{NOWHERE}/ack"): Scope.WRITE,
    ("POST", f"/v1/alerts/{NOWHERE}/mute"): Scope.WRITE,
    ("POST", f"/v1/alerts/{NOWHERE}/unmute"): Scope.WRITE,
    ("GET", "/v1/alert-rules"): Scope.READ,
    ("POST", "/v1/alert-rules"): Scope.ADMIN,
    ("GET", "/v1/alert-rules/x"): Scope.READ,
    ("PUT", "/v1/alert-rules/x"): Scope.ADMIN,
    ("PATCH", "/v1/alert-rules/x"): Scope.ADMIN,
    ("DELETE", "/v1/alert-rules/x"): Scope.ADMIN,
    ("GET", "/v1/alert-channels"): Scope.READ,
    ("POST", "/v1/alert-channels"): Scope.ADMIN,
    ("GET", "/v1/alert-channels/x"): Scope.READ,
    ("PATCH", "/v1/alert-channels/x"): Scope.ADMIN,
    ("DELETE", "/v1/alert-channels/x"): Scope.ADMIN,
    ("POST", "/v1/alert-channels/x/test"): Scope.ADMIN,
    ("POST", "/v1/alert-channels/x/rotate-secret"): Scope.ADMIN,
    ("GET", f"/v1/messages/{NOWHERE}/report"): Scope.READ,
    ("POST", f"/v1/messages/{NOWHERE}/answers"): Scope.WRITE,
    ("GET", "/v1/status"): Scope.READ,
    ("GET", "/v1/doctor"): Scope.ADMIN,
    ("GET", "/v1/settings"): Scope.ADMIN,
    ("GET", "/v1/diagnosis"): Scope.READ,
    ("GET", "/v1/subscriptions"): Scope.READ,
    ("POST", "/v1/subscriptions"): Scope.WRITE,
    ("GET", f"/v1/subscriptions/{NOWHERE}"): Scope.READ,
    ("PATCH", f"/v1/subscriptions/{NOWHERE}"): Scope.WRITE,
    ("DELETE", f"/v1/subscriptions/{NOWHERE}"): Scope.WRITE,
    ("POST", f"/v1/subscriptions/{NOWHERE}/rotate-secret"): Scope.WRITE,
    ("POST", f"/v1/subscriptions/{NOWHERE}/pause"): Scope.WRITE,
    ("POST", f"/v1/subscriptions/{NOWHERE}/resume"): Scope.WRITE,
    ("POST", f"/v1/subscriptions/{NOWHERE}/test"): Scope.WRITE,
    ("POST", f"/v1/subscriptions/{NOWHERE}/recover"): Scope.WRITE,
    ("GET", "/v1/deliveries"): Scope.READ,
    ("POST", "/v1/deliveries/replay"): Scope.WRITE,
    ("GET", f"/v1/deliveries/{NOWHERE}"): Scope.READ,
    ("GET", f"/v1/deliveries/{NOWHERE}/attempts"): Scope.READ,
    ("POST", f"/v1/deliveries/{NOWHERE}/replay"): Scope.WRITE,
    ("GET", "/v1/audit"): Scope.ADMIN,
    ("GET", "/v1/keys"): Scope.ADMIN,
    ("POST", "/v1/keys"): Scope.ADMIN,
    ("DELETE", "/v1/keys/9"): Scope.ADMIN,
}
HOLDERS = [None, *Scope, "administrator"]


@pytest.fixture(scope="module")
def keys(shared_system: System) -> dict[Any, str | None]:
    """A key of each scope."""
    made = {
        scope: shared_system.call("POST", "/v1/keys", {"name": scope, "scope": scope}).get_json()["key"]
        for scope in Scope
    }
    return {**made, None: None, "administrator": ADMIN_KEY}


def test_every_path_is_in_the_table(shared_system: System) -> None:
    rules = shared_system.client.application.url_map.iter_rules()
    wanted = {
        (method, rule.rule.replace("<identifier:", "<"))
        for rule in rules
        if rule.rule.startswith("/v1/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert len(wanted) == len(PATHS), "a path is missing from the table of this test"


@pytest.mark.parametrize("holder", HOLDERS, ids=str)
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_key_opens_what_its_scope_says(
    shared_system: System, keys: dict[Any, str | None], method: str, path: str, holder: Any
) -> None:
    shared_system.key = keys[holder]
    try:
        answer = shared_system.call(method, path, None if method in ("GET", "DELETE") else {})
    finally:
        shared_system.key = ADMIN_KEY
    needed = PATHS[method, path]
    if holder is None:
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tidings"'
    elif holder != "administrator" and not holder.includes(needed):
        assert answer.status_code == 403
        assert f'scope="{needed}"' in answer.headers["WWW-Authenticate"]
    else:
        assert answer.status_code in (200, 202, 404, 422)
    if answer.status_code >= 400:
        assert answer.content_type == "application/problem+json"
        assert answer.get_json()["status"] == answer.status_code


def test_head_needs_what_get_needs(shared_system: System, keys: dict[Any, str | None]) -> None:
    """It runs the same function."""
    headers = {"Authorization": f"Bearer {keys[Scope.READ]}"}
    refused = [path for method, path in PATHS if method == "GET" and PATHS[method, path] is not Scope.READ]
    assert "/v1/sources/x/webhooks" in refused
    for path in refused:
        assert shared_system.client.head(path, headers=headers).status_code == 403, path


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic dXNlcjpwYXNz",
        "bearer\x00x",
        f"Token {ADMIN_KEY}",
        "Bearer " + "x" * 9000,
        "ü",
    ],
)
def test_an_invalid_key_is_rejected(shared_system: System, authorization: str) -> None:
    answer = shared_system.client.get("/v1/sources", headers={"Authorization": authorization})
    assert answer.status_code == 401


def test_an_empty_admin_key_opens_nothing(system: System) -> None:
    from api.app import create_app
    from api.core.resource import Deps
    from shared.settings import Settings

    deps = Deps(settings=Settings(admin_key=""), engine=system.engine, vault=system.vault, notifier=system.notifier)
    answer = create_app(deps).test_client().get("/v1/sources", headers={"Authorization": "Bearer "})
    assert answer.status_code == 401


def test_a_key_is_shown_once_and_stored_as_a_hash(system: System) -> None:
    answer = system.call("POST", "/v1/keys", {"name": "billing", "scope": "write"})
    assert answer.status_code == 201
    made = answer.get_json()
    assert made["key"].startswith(made["prefix"])
    assert len(made["key"]) > 40
    assert made["key"] not in system.call("GET", "/v1/keys").text
    ((stored,),) = system.execute("SELECT api_keys::text FROM api_keys")
    assert made["key"] not in stored


def test_a_revoked_key_opens_nothing(system: System) -> None:
    made = system.call("POST", "/v1/keys", {"name": "billing"}).get_json()
    assert made["scope"] == "read"
    system.key = made["key"]
    assert system.call("GET", "/v1/sources").status_code == 200
    system.key = ADMIN_KEY
    used = system.get("/v1/keys")["items"][0]["last_used_at"]
    assert datetime.fromisoformat(used)
    assert system.call("DELETE", f"/v1/keys/{made['id']}").status_code == 204
    assert system.call("DELETE", f"/v1/keys/{made['id']}").status_code == 404
    assert system.get("/v1/keys")["items"][0]["revoked_at"] is not None
    system.key = made["key"]
    assert system.call("GET", "/v1/sources").status_code == 401


def test_keys_come_in_pages(system: System) -> None:
    for number in range(5):
        system.call("POST", "/v1/keys", {"name": str(number)})
    assert [item["name"] for item in system.list_items("/v1/keys", limit=2)] == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a", "scope": "root"}, {"name": 5}])
def test_a_wrong_key_is_not_made(shared_system: System, body: dict[str, Any]) -> None:
    assert shared_system.call("POST", "/v1/keys", body).status_code == 422


@pytest.mark.parametrize("key_id", ["0", "-1", "x", str(2**63), str(10**30)])
def test_an_unknown_key_is_not_found(shared_system: System, key_id: str) -> None:
    assert shared_system.call("DELETE", f"/v1/keys/{key_id}").status_code == 404

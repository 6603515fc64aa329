"""Signing in to the console: keys, passwords and links; what ends a session; what a session may do."""

import itertools
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.core.resource import Deps
from shared.auth import sessions, users
from shared.auth.keys import Caller, Role, Scope, create_key
from tests.support.console import SAME_ORIGIN, read_cookie, rules, sign_in
from tests.support.system import ADMIN_KEY, System

PASSWORD = "correct horse battery"
ADDRESSES = itertools.count(1)
NOWHERE = "00000000-0000-0000-0000-000000000001"


def add_user(system: System, role: Role = Role.VIEWER, tenant: str | None = None) -> None:
    with system.engine.begin() as connection:
        users.create_user(connection, "Ann@Example.com", role, PASSWORD, tenant=tenant)


def sign_in_as_ann(system: System, password: str = PASSWORD, ip: str = "") -> tuple[FlaskClient, TestResponse]:
    """Sign in from an address of its own, because attempts are counted by address."""
    client = system.client.application.test_client()
    data = {"email": "ann@example.com", "password": password}
    base = {"REMOTE_ADDR": ip or f"192.0.2.{next(ADDRESSES)}"}
    return client, client.post("/console/login", data=data, headers=SAME_ORIGIN, environ_base=base)


def test_the_root_leads_to_the_console_and_that_to_the_sign_in_page(system: System) -> None:
    client = system.client.application.test_client()
    assert client.get("/").headers["Location"] == "/console/"
    answer = client.get("/console/messages?status=bounced&source=main")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/console/login?next=%2Fconsole%2Fmessages%3Fstatus%3Dbounced%26source%3Dmain"
    assert 'value="/console/messages?status=bounced&amp;source=main"' in client.get(answer.headers["Location"]).text


def test_signing_in_leads_to_the_page_that_was_wanted_and_never_to_another_site(system: System) -> None:
    client = system.client.application.test_client()
    for wanted, shown in (
        ("/console/messages?status=bounced", "/console/messages?status=bounced"),
        ("https://evil.example/console/", "/console/"),
        ("//evil.example/console/", "/console/"),
        ("/\\evil.example/console/", "/console/"),
        ("/v1/keys", "/console/"),
        ("https:/console/", "/console/"),
        ("javascript:alert(1)//console/", "/console/"),
        ("\t//evil.example/console/", "/console/"),
        ("/\t/evil.example/console/", "/console/"),
        ("/console/login?next=/console/keys", "/console/"),
        ("/console/\r\nSet-Cookie: tidings_console=x", "/console/"),
    ):
        answer = client.post("/console/login", data={"key": ADMIN_KEY, "next": wanted}, headers=SAME_ORIGIN)
        assert (answer.status_code, answer.headers["Location"]) == (303, shown)


def test_the_cookie_cannot_be_read_by_scripts_nor_sent_by_other_sites(system: System) -> None:
    client = system.client.application.test_client()
    plain = client.post("/console/login", data={"key": ADMIN_KEY}, headers=SAME_ORIGIN).headers["Set-Cookie"]
    assert plain.startswith("tidings_console=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/console/"} <= set(plain.split("; "))
    with_tls = client.post(
        "/console/login", data={"key": ADMIN_KEY}, headers=SAME_ORIGIN, base_url="https://localhost"
    ).headers["Set-Cookie"]
    assert with_tls.startswith("__Host-tidings_console=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Secure"} <= set(with_tls.split("; "))


def test_the_database_has_no_token_and_no_password(system: System) -> None:
    add_user(system)
    client, _ = sign_in_as_ann(system)
    token = read_cookie(client)
    stored = repr(system.rows("SELECT * FROM console_sessions")) + repr(system.rows("SELECT * FROM console_users"))
    assert token not in stored
    assert PASSWORD not in stored
    assert "$argon2id$" in stored


@pytest.mark.parametrize("data", [{}, {"key": "tdk_wrong"}, {"email": "ann@example.com", "password": "wrong wrong wr"}])
def test_who_is_not_known_is_not_let_in(system: System, data: dict[str, str]) -> None:
    add_user(system)
    client = system.client.application.test_client()
    answer = client.post("/console/login", data=data, headers=SAME_ORIGIN)
    assert answer.status_code in (401, 422)
    assert 'role="alert"' in answer.text
    assert client.get("/console/").status_code == 303


def test_guessing_passwords_is_limited(system: System) -> None:
    statuses = [sign_in_as_ann(system, "wrong wrong wrong", "198.51.100.1")[1].status_code for _ in range(20)]
    assert 429 in statuses
    assert statuses.index(429) <= 10


def test_a_session_ends_with_sign_out_with_its_key_and_with_its_user(system: System) -> None:
    client = sign_in(system)
    assert client.get("/console/messages").status_code == 200
    token = read_cookie(client)
    client.post("/console/logout", headers=SAME_ORIGIN)
    client.set_cookie("tidings_console", token, path="/console/")
    assert client.get("/console/messages").status_code == 303

    with system.engine.begin() as connection:
        made = create_key(connection, "support", Scope.READ)
    client = sign_in(system, made.secret)
    assert client.get("/console/messages").status_code == 200
    assert system.call("DELETE", f"/v1/keys/{made.row.id}").status_code == 204
    assert client.get("/console/messages").status_code == 303


def test_a_user_that_is_disabled_or_has_a_new_password_is_signed_out(system: System) -> None:
    with system.engine.begin() as connection:
        users.create_user(connection, "bob@example.com", Role.VIEWER, PASSWORD)
        caller = users.authenticate(connection, "bob@example.com", PASSWORD, datetime.now(UTC))
        assert caller is not None
        tokens = [sessions.create_session(connection, caller, datetime.now(UTC), admin_key="") for _ in range(2)]
    with system.engine.begin() as connection:
        assert sessions.find_caller(connection, tokens[0], datetime.now(UTC), admin_key="") == caller
        users.set_password(connection, "bob@example.com", f"{PASSWORD} staple")
        assert sessions.find_caller(connection, tokens[0], datetime.now(UTC), admin_key="") is None
        users.disable_user(connection, "BOB@example.com", datetime.now(UTC))
        assert users.authenticate(connection, "bob@example.com", f"{PASSWORD} staple", datetime.now(UTC)) is None


def test_a_session_that_lives_ends_when_its_user_is_disabled_and_shrinks_with_its_role(system: System) -> None:
    add_user(system, Role.ADMIN)
    client, _ = sign_in_as_ann(system)
    assert client.get("/console/keys").status_code == 200
    system.execute("UPDATE console_users SET role = 'viewer'")
    assert client.get("/console/keys").status_code == 403
    assert client.post("/console/keys", data={"name": "x"}, headers=SAME_ORIGIN).status_code == 403
    with system.engine.begin() as connection:
        users.disable_user(connection, "ann@example.com", datetime.now(UTC))
    assert client.get("/console/messages").headers["Location"].startswith("/console/login?")
    answer = client.post("/console/suppressions/add", data={"target": "a@b.example"}, headers=SAME_ORIGIN)
    assert answer.headers["Location"].startswith("/console/login?")
    assert not system.list_items("/v1/suppressions")


def test_a_token_that_was_planted_before_signing_in_opens_nothing(system: System) -> None:
    client = system.client.application.test_client()
    client.set_cookie("tidings_console", "planted", path="/console/")
    client.post("/console/login", data={"key": ADMIN_KEY}, headers=SAME_ORIGIN)
    assert read_cookie(client) != "planted"
    assert client.get("/console/").status_code == 200
    thief = system.client.application.test_client()
    thief.set_cookie("tidings_console", "planted", path="/console/")
    assert thief.get("/console/").status_code == 303


def test_the_administrators_sessions_end_when_the_key_is_changed(system: System) -> None:
    caller, now = Caller(name="TIDINGS_ADMIN_KEY", scope=Scope.ADMIN), datetime.now(UTC)
    with system.engine.begin() as connection:
        token = sessions.create_session(connection, caller, now, admin_key="old")
        assert sessions.find_caller(connection, token, now, admin_key="old") == caller
        assert sessions.find_caller(connection, token, now, admin_key="new") is None
        assert sessions.find_caller(connection, token, now, admin_key="") is None
        assert sessions.find_caller(connection, token, now + sessions.LIFETIME, admin_key="old") is None


def test_guessing_links_and_keys_is_limited_even_without_a_rate(system: System) -> None:
    client = create_app(
        Deps(
            settings=replace(system.settings, api_rate=0),
            engine=system.engine,
            vault=system.vault,
            notifier=system.notifier,
        )
    ).test_client()
    links = [client.get(f"/console/login?link=guess-{number}").status_code for number in range(20)]
    keys = [client.post("/console/login", data={"key": f"guess-{number}"}, headers=SAME_ORIGIN) for number in range(40)]
    assert set(links) == {401}
    limited = [answer for answer in keys if answer.status_code == 429]
    assert limited
    assert "Retry-After" in limited[0].headers


def test_a_link_signs_in_once(system: System) -> None:
    caller = Caller(name="TIDINGS_ADMIN_KEY", scope=Scope.ADMIN)
    with system.engine.begin() as connection:
        token = sessions.create_session(connection, caller, datetime.now(UTC), admin_key=ADMIN_KEY, as_link=True)
    client = system.client.application.test_client()
    client.set_cookie("tidings_console", token, path="/console/")
    assert client.get("/console/").status_code == 303, "a link is no session"
    assert client.get(f"/console/login?link={token}").headers["Location"] == "/console/"
    assert client.get("/console/").status_code == 200
    assert client.get(f"/console/login?link={token}").status_code == 401


def test_no_other_site_can_change_anything(system: System) -> None:
    client = sign_in(system)
    for headers in (
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        answer = client.post("/console/keys", data={"name": "x"}, headers=headers)
        assert answer.status_code == 403, headers
    assert client.post("/console/keys", data={"name": "x"}, headers={"Origin": "http://localhost"}).status_code == 200
    assert len(system.list_items("/v1/keys")) == 1


def test_a_viewer_changes_nothing(system: System) -> None:
    with system.engine.begin() as connection:
        made = create_key(connection, "viewer", Scope.READ)
    client = sign_in(system, made.secret)
    tried = 0
    for rule in rules(system, "POST"):
        if rule.endpoint == "console.suppressions.check":
            continue
        path = rule.rule.replace("<slug>", "main").replace("<path:address>", "a@b.example")
        for name in rule.arguments:
            path = path.replace(f"<identifier:{name}>", NOWHERE).replace(f"<int:{name}>", "1")
        form = {
            "provider": "mailchannels",
            "slug": "x",
            "target": "a@b.example",
            "url": "https://x.example/",
            "id": NOWHERE,
        }
        answer = client.post(path, data=form, headers=SAME_ORIGIN)
        if rule.endpoint in ("console.deliveries.replay_selected", "console.receipts.reprocess_selected"):
            assert "needs a key with scope" in bytes.fromhex(read_cookie(client, "tidings_notice")).decode()
        else:
            assert answer.status_code == 403 or (answer.status_code == 404 and "source" in answer.text), path
        tried += 1
    assert tried > 15
    assert {row[0] for row in system.rows("SELECT action FROM audit_log")} == {"session.opened"}


def test_the_form_of_a_new_source_is_shown_to_administrators_only(system: System) -> None:
    with system.engine.begin() as connection:
        made = create_key(connection, "operator", Scope.WRITE)
    assert sign_in(system, made.secret).get("/console/sources/new").status_code == 403
    assert sign_in(system).get("/console/sources/new?provider=ses").status_code == 200


def test_a_viewer_cannot_change_the_settings_of_a_source(system: System) -> None:
    system.create_source()
    with system.engine.begin() as connection:
        made = create_key(connection, "viewer", Scope.READ)
    form = {"settings": "[", "before": "{}"}
    answer = sign_in(system, made.secret).post("/console/sources/main/settings", data=form, headers=SAME_ORIGIN)
    assert answer.status_code == 403


@pytest.mark.parametrize("text", ["day: 2026-13-45", "!!int x", "[" * 3000, "{", "[]", "false"])
def test_settings_that_are_no_object_are_refused(system: System, text: str) -> None:
    system.create_source()
    form = {"settings": text, "before": "{}"}
    answer = sign_in(system, ADMIN_KEY).post("/console/sources/main/settings", data=form, headers=SAME_ORIGIN)
    assert answer.status_code == 422
    assert "settings" in answer.text


def test_a_setting_that_was_made_since_the_page_was_shown_stays(system: System) -> None:
    system.create_source()
    system.call("PATCH", "/v1/sources/main", {"settings": {"api_base": "https://esp.example"}})
    form = {"settings": '{\n\t"webhook_url": "https://hooks.example/webhooks/main"}', "before": "{}"}
    answer = sign_in(system, ADMIN_KEY).post("/console/sources/main/settings", data=form, headers=SAME_ORIGIN)
    assert answer.status_code == 303
    assert system.get("/v1/sources/main")["settings"].keys() == {"api_base", "webhook_url"}


def test_an_operator_is_named_in_the_audit_log(system: System) -> None:
    add_user(system, Role.OPERATOR)
    client, answer = sign_in_as_ann(system)
    assert answer.status_code == 303
    client.post("/console/suppressions/add", data={"target": "a@b.example"}, headers=SAME_ORIGIN)
    (user_id,) = system.rows("SELECT id FROM console_users")[0]
    entries = system.get("/v1/audit", actor=f"user:{user_id}")["items"]
    assert [entry["action"] for entry in entries] == ["suppression.added", "session.opened"]
    assert client.get("/console/keys").status_code == 403


def test_an_administrator_manages_users_and_sessions(system: System) -> None:
    admin = sign_in(system)
    shown = admin.post("/console/users", data={"email": "eve@example.com", "role": "operator"}, headers=SAME_ORIGIN)
    path = re.findall(r"/console/login\?link=[\w-]+", shown.text)[0]
    eve = system.client.application.test_client()
    assert eve.get(path).status_code == 303
    assert eve.get("/console/messages").status_code == 200
    assert eve.get("/console/users").status_code == 403
    assert "/console/users" not in eve.get("/console/messages").text
    (user,) = [one for one in system.list_items("/v1/users") if one["email"] == "eve@example.com"]
    changed = {"role": "viewer", "tenant": "acme"}
    admin.post(f"/console/users/{user['id']}/change", data=changed, headers=SAME_ORIGIN)
    assert (
        eve.post("/console/suppressions/add", data={"target": "a@example.net"}, headers=SAME_ORIGIN).status_code == 403
    )
    (session,) = [one for one in system.list_items("/v1/sessions") if one["name"] == "eve@example.com"]
    admin.post(f"/console/sessions/{session['id']}/end", headers=SAME_ORIGIN)
    assert eve.get("/console/messages").status_code == 303
    admin.post(f"/console/users/{user['id']}/change", data={"disabled": "1"}, headers=SAME_ORIGIN)
    assert system.call("POST", f"/v1/users/{user['id']}/link").status_code == 404
    actions = {one["action"] for one in system.list_items("/v1/audit")}
    assert {"user.created", "session.link_created", "user.changed", "session.revoked"} <= actions

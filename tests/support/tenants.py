"""Tenants in one system: the data of each, data that belongs to no tenant, and the requests for all of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.auth import sessions, users
from shared.auth.keys import Role, Scope, create_key
from tests.support import alerts
from tests.support.system import ADMIN_KEY, System, mailchannels_event

ALPHA, BRAVO, NOBODY = "alpha-5e1f", "bravo-7f3a", "nobody-9c2d"


@dataclass
class Tenant:
    """A tenant, whose data all contains `name`. `places` are values for path parameters, `ids` those of its data."""

    name: str
    key: str
    places: dict[str, str]
    ids: set[str] = field(default_factory=set)

    @property
    def words(self) -> set[str]:
        """Return the words that reveal this tenant's data."""
        return {self.name, *self.ids}


def create_tenants(system: System, url: str) -> dict[str, Tenant]:
    """Create all tenants with their data. `url` is the endpoint of their subscriptions."""

    system.create_source("main", customer_handles=[ALPHA, BRAVO])
    for name in (ALPHA, BRAVO):
        _send(system, name, url)
    _send_of_nobody(system, url)
    system.deliver()
    return {name: _introduce(system, name) for name in (ALPHA, BRAVO, NOBODY)}


def _send(system: System, name: str, url: str) -> None:

    mail: dict[str, Any] = {
        "customer_handle": name,
        "request_id": f"request-{name}",
        "smtp_id": f"<smtp-{name}@x.example>",
    }
    system.process_events(
        mailchannels_event("processed", f"ann@{name}.example", **mail) | {"email": f"shop@{name}.example"},
        mailchannels_event("hard-bounced", f"ann@{name}.example", second=9, reason=f"none at {name}", **mail)
        | {"email": f"shop@{name}.example"},
    )
    _make(system, "/v1/subscriptions", {"url": f"{url}/{name}", "types": ["*"], "tenant": name, "name": name})
    _suppress(system, name, tenant=name)


def _send_of_nobody(system: System, url: str) -> None:
    announced = {
        "source": "main", "request_id": f"request-{NOBODY}", "sender": f"shop@{NOBODY}.example",
        "recipients": [f"ann@{NOBODY}.example"],
    }  # fmt: skip
    _make(system, "/v1/messages", announced)
    _make(system, "/v1/subscriptions", {"url": f"{url}/{NOBODY}", "types": ["*"], "name": NOBODY})
    _suppress(system, NOBODY)
    # One that holds for all, of alpha's recipient, and follows from bravo's mail.
    _make(system, "/v1/suppressions", {"address": f"ann@{ALPHA}.example", "note": f"as {BRAVO} found out"})
    system.execute(
        "UPDATE suppressions SET evidence_event_id ="
        " (SELECT e.id FROM events AS e JOIN messages AS m ON m.id = message_id WHERE tenant = %(bravo)s LIMIT 1)"
        " WHERE address = %(address)s AND tenant = ''",
        bravo=BRAVO,
        address=f"ann@{ALPHA}.example",
    )


def _suppress(system: System, name: str, **wishes: Any) -> None:
    _make(system, "/v1/suppressions", {"address": f"bob@{name}.example", "note": f"of {name}", **wishes})


def _introduce(system: System, name: str) -> Tenant:

    with system.engine.begin() as connection:
        made = create_key(connection, name, Scope.ADMIN, None if name == NOBODY else name)
        user = users.create_user(
            connection, f"carl@{name}.example", Role.ADMIN, None, tenant=None if name == NOBODY else name
        )
        caller = users.find_caller(connection, user.id)
        assert caller is not None
        sessions.create_session(connection, caller, datetime.now(UTC), admin_key=ADMIN_KEY)
        (session,) = [
            one for one in sessions.list_sessions(connection, datetime.now(UTC), limit=100) if one.name == caller.name
        ]
        alert_id = alerts.fire(connection, name, summary=f"Much of the mail of {name} bounced.")
    system.key = made.secret
    job = system.run_job("POST", "/v1/suppressions/export", {"address": f"bob@{name}.example"})
    system.key = ADMIN_KEY
    _make(
        system,
        "/v1/sources",
        {"slug": f"s-{name}", "provider": "mailchannels", "credentials": {"customer_handles": [name]}},
    )
    _make(system, "/v1/alert-rules", {"name": f"r-{name}", "kind": "rate", "rate": "bounce", "warning": 3})
    _make(system, "/v1/alert-channels", {"name": f"c-{name}", "kind": "webhook", "url": f"http://127.0.0.1:9/{name}"})
    (subscription,) = [item for item in system.list_items("/v1/subscriptions") if item["name"] == name]
    deliveries = system.list_items("/v1/deliveries", subscription=subscription["id"])
    (message,) = system.list_items("/v1/messages", request_id=f"request-{name}")
    events = system.list_items(f"/v1/messages/{message['id']}/events")
    receipts = system.list_items("/v1/receipts")
    places = {
        "message_id": message["id"],
        "event_id": events[0]["id"] if events else message["id"],
        "receipt_id": receipts[0]["id"],
        "slug": f"s-{name}",
        "key_id": str(made.row.id),
        "address": f"bob@{name}.example",
        "job_id": job["id"],
        "alert_id": str(alert_id),
        "subscription_id": subscription["id"],
        "delivery_id": deliveries[0]["id"],
        "name": f"c-{name}",
        "rule_name": f"r-{name}",
        "user_id": str(user.id),
        "session_id": str(session.id),
    }
    ids = {message["id"], job["id"], str(alert_id), subscription["id"]}
    ids |= {event["id"] for event in events} | {delivery["id"] for delivery in deliveries}
    return Tenant(name, made.secret, places, ids)


def _make(system: System, path: str, body: dict[str, Any]) -> None:
    answer = system.call("POST", path, body)
    assert answer.status_code in (200, 201), answer.text

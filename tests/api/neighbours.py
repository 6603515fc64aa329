"""Tenants in one house, and what belongs to none of them: everything there is of each, and what each is asked for."""

from dataclasses import dataclass, field
from typing import Any

from shared.auth.keys import Scope, create_key
from tests import telling
from tests.api.house import ADMIN_KEY, happening
from tests.estate import Estate

ALPHA, BRAVO, NOBODY = "alpha-5e1f", "bravo-7f3a", "nobody-9c2d"


@dataclass
class Neighbour:
    """Whose everything bears `name`. `places` are values for the parameters of paths, `ids` what names its things."""

    name: str
    key: str
    places: dict[str, str]
    ids: set[str] = field(default_factory=set)

    @property
    def words(self) -> set[str]:
        """What gives away that something is this neighbour's."""
        return {self.name, *self.ids}


def settle(estate: Estate, url: str) -> dict[str, Neighbour]:
    """Move all of them in. `url` is where their subscriptions deliver to."""
    house = estate.house
    house.source("main", customer_handles=[ALPHA, BRAVO])
    for name in (ALPHA, BRAVO):
        _send(estate, name, url)
    _send_of_nobody(estate, url)
    estate.deliver()
    return {name: _introduce(estate, name) for name in (ALPHA, BRAVO, NOBODY)}


def _send(estate: Estate, name: str, url: str) -> None:
    house = estate.house
    mail: dict[str, Any] = {
        "customer_handle": name,
        "request_id": f"request-{name}",
        "smtp_id": f"<smtp-{name}@x.example>",
    }
    house.receive(
        happening("processed", f"ann@{name}.example", **mail) | {"email": f"shop@{name}.example"},
        happening("hard-bounced", f"ann@{name}.example", second=9, reason=f"none at {name}", **mail)
        | {"email": f"shop@{name}.example"},
    )
    _make(estate, "/v1/subscriptions", {"url": f"{url}/{name}", "types": ["*"], "tenant": name, "name": name})
    _suppress(estate, name, tenant=name)


def _send_of_nobody(estate: Estate, url: str) -> None:
    announced = {
        "source": "main", "request_id": f"request-{NOBODY}", "sender": f"shop@{NOBODY}.example",
        "recipients": [f"ann@{NOBODY}.example"],
    }  # fmt: skip
    _make(estate, "/v1/messages", announced)
    _make(estate, "/v1/subscriptions", {"url": f"{url}/{NOBODY}", "types": ["*"], "name": NOBODY})
    _suppress(estate, NOBODY)
    # One that holds for all, of alpha's recipient, and follows from bravo's mail.
    _make(estate, "/v1/suppressions", {"address": f"ann@{ALPHA}.example", "note": f"as {BRAVO} found out"})
    estate.house.execute(
        "UPDATE suppressions SET evidence_event_id ="
        " (SELECT id FROM events WHERE data ->> 'tenant' = %(bravo)s LIMIT 1)"
        " WHERE address = %(address)s AND tenant = ''",
        bravo=BRAVO,
        address=f"ann@{ALPHA}.example",
    )


def _suppress(estate: Estate, name: str, **wishes: Any) -> None:
    _make(estate, "/v1/suppressions", {"address": f"bob@{name}.example", "note": f"of {name}", **wishes})


def _introduce(estate: Estate, name: str) -> Neighbour:
    house = estate.house
    with house.engine.begin() as connection:
        made = create_key(connection, name, Scope.ADMIN, None if name == NOBODY else name)
        alert_id = telling.fire(connection, name, summary=f"Much of the mail of {name} bounced.")
    house.key = made.secret
    job = estate.job("POST", "/v1/suppressions/export", {"address": f"bob@{name}.example"})
    house.key = ADMIN_KEY
    _make(
        estate,
        "/v1/sources",
        {"slug": f"s-{name}", "provider": "mailchannels", "credentials": {"customer_handles": [name]}},
    )
    _make(estate, "/v1/alert-rules", {"name": f"r-{name}", "kind": "rate", "rate": "bounce", "warning": 3})
    _make(estate, "/v1/alert-channels", {"name": f"c-{name}", "kind": "webhook", "url": f"http://127.0.0.1:9/{name}"})
    (subscription,) = [item for item in house.items("/v1/subscriptions") if item["name"] == name]
    deliveries = house.items("/v1/deliveries", subscription=subscription["id"])
    (message,) = house.items("/v1/messages", request_id=f"request-{name}")
    events = house.items(f"/v1/messages/{message['id']}/events")
    receipts = house.items("/v1/receipts")
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
    }
    ids = {message["id"], job["id"], str(alert_id), subscription["id"]}
    ids |= {event["id"] for event in events} | {delivery["id"] for delivery in deliveries}
    return Neighbour(name, made.secret, places, ids)


def _make(estate: Estate, path: str, body: dict[str, Any]) -> None:
    answer = estate.house.call("POST", path, body)
    assert answer.status_code in (200, 201), answer.text

"""Two tenants whose mail has the same source and the same ids: neither sees anything of the other."""

import json
from typing import Any

import pytest

from shared.auth.keys import Scope, create_key
from tests.support import http_sink
from tests.support.signed_requests import GIVEN, read_payloads
from tests.support.system import ADMIN_KEY, System, mailchannels_event

ALPHA, ZULU = "alpha", "zulu"
CHOSEN = "<known@shop.example>"
"""A Message-Id that both give to their mail: the one because it knows the other's."""
FROM_ONE_SOURCE = ["ark", "postal", "mailchannels", "mailwebhook"]
ORDERS = [(ALPHA, ZULU), (ZULU, ALPHA)]


def of_postal(tenant: str) -> bytes:
    """That a message of this tenant's was refused, as a platform's webhook tells it."""
    inner = json.loads(read_payloads("ark")["failed"])
    inner["message"] |= {
        "to": f"ann@{tenant}.example",
        "message_id": CHOSEN,
        "token": tenant,
        "subject": f"by {tenant}",
    }
    inner["output"] = f"550 5.1.1 nobody at {tenant}"
    return json.dumps({"event": "MessageDeliveryFailed", "tenant_id": tenant, "payload": inner}).encode()


def of_mailchannels(tenant: str, *, request_id: str = "", second: int = 0) -> bytes:
    event = mailchannels_event(
        "hard-bounced", f"ann@{tenant}.example", second=second, request_id=request_id, smtp_id=CHOSEN
    )
    event |= {"reason": f"nobody at {tenant}"}
    return json.dumps([event | {"customer_handle": tenant, "email": f"shop@{tenant}.example"}]).encode()


def of_mailwebhook(tenant: str) -> bytes:
    body = {
        "schema": {"name": "mailwebhook.generic"},
        "event": {"id": f"e-{tenant}", "project_id": tenant},
        "message": {"message_id": CHOSEN, "to": [{"email": f"ann@{tenant}.example"}], "subject": f"to {tenant}"},
    }
    return json.dumps(body).encode()


def body(provider: str, tenant: str) -> bytes:
    made = {"mailchannels": of_mailchannels, "mailwebhook": of_mailwebhook}.get(provider, of_postal)
    return made(tenant)


def source(delivery_system: System, provider: str) -> None:
    """One that brings the events of both."""
    handles: dict[str, Any] = {"customer_handles": [ALPHA, ZULU]} if provider == "mailchannels" else {}
    delivery_system.create_source("main", provider, **{**GIVEN[provider], **handles})


def key(delivery_system: System, tenant: str) -> str:
    with delivery_system.engine.begin() as connection:
        return create_key(connection, tenant, Scope.READ, tenant).secret


def shown(delivery_system: System, secret: str) -> dict[str, str]:
    """What a key is shown, as text."""
    delivery_system.key = secret
    paths = ("/v1/messages", "/v1/events", "/v1/changes")
    found = {path: json.dumps(delivery_system.get(path)["items"]) for path in paths}
    delivery_system.key = ADMIN_KEY
    return found


@pytest.mark.parametrize("provider", FROM_ONE_SOURCE)
@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
def test_one_message_id_of_two_tenants_is_two_messages(
    delivery_system: System, provider: str, order: tuple[str, str]
) -> None:
    system = delivery_system
    source(delivery_system, provider)
    secrets = {tenant: key(delivery_system, tenant) for tenant in order}
    with http_sink.http_sink() as sink:
        for tenant in order:
            delivery_system.create_subscription(f"{sink.url}/{tenant}", tenant=tenant)
        for tenant in order:
            system.process_receipt(system.queue_body(body(provider, tenant)))
        delivery_system.deliver()
    assert len(system.list_items("/v1/messages", smtp_id=CHOSEN)) == len(order)
    for own, other in (order, order[::-1]):
        event = shown(delivery_system, secrets[own])
        event |= {"webhook": " ".join(str(got.json) for got in sink.received if got.path == f"/{own}")}
        assert {place for place, text in event.items() if f"ann@{own}.example" not in text} == set()
        assert {place for place, text in event.items() if other in text} == set()


@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
@pytest.mark.parametrize("batch", ["one", "two"])
def test_a_message_that_its_provider_names_for_two_tenants_belongs_to_neither(
    delivery_system: System, order: tuple[str, str], batch: str
) -> None:
    system = delivery_system
    source(delivery_system, "mailchannels")
    bodies = [of_mailchannels(tenant, request_id="r1") for tenant in order]
    if batch == "one":
        bodies = [json.dumps([*json.loads(bodies[0]), *json.loads(bodies[1])]).encode()]
    secrets = [key(delivery_system, tenant) for tenant in order]
    with http_sink.http_sink() as sink:
        for tenant in order:
            delivery_system.create_subscription(sink.url, tenant=tenant)
        for each in (*bodies, of_mailchannels(ALPHA, request_id="r1", second=9)):
            system.process_receipt(system.queue_body(each))
        delivery_system.deliver()
    assert [message["tenant"] for message in system.list_items("/v1/messages")] == [None]
    assert [shown(delivery_system, secret) for secret in secrets] == [
        dict.fromkeys(shown(delivery_system, secrets[0]), "[]")
    ] * 2
    assert sink.received == []


def test_a_webhook_shows_a_tenant_what_the_feed_does(delivery_system: System) -> None:
    system = delivery_system
    source(delivery_system, "mailchannels")
    with http_sink.http_sink() as sink:
        paths = {
            delivery_system.create_subscription(f"{sink.url}/{tenant}", tenant=tenant)["id"]: f"/{tenant}"
            for tenant in (ALPHA, ZULU, None)
        }
        system.process_receipt(system.queue_body(of_mailchannels(ALPHA, request_id="r1")))
        evidence = system.list_items("/v1/events")[0]["id"]
        system.execute(
            "INSERT INTO state_changes (type, event_id, data) VALUES ('suppression.added', %(evidence)s,"
            " jsonb_build_object('tenant', %(zulu)s::text))",
            evidence=evidence,
            zulu=ZULU,
        )
        delivery_system.deliver()
    got = {path: [request.json["data"] for request in sink.received if request.path == path] for path in paths.values()}
    for tenant in (ALPHA, ZULU):
        assert got[f"/{tenant}"] == expected_from_feed(delivery_system, tenant)
    assert [event["event"] and event["event"]["id"] for event in got[f"/{ZULU}"]] == [None]
    assert [event["event"]["id"] for event in got["/None"]] == [evidence, evidence]
    for delivery in delivery_system.list_deliveries():
        case = system.get(f"/v1/deliveries/{delivery['id']}")
        assert case["change"]["data"] in got[paths[delivery["subscription"]]]


def expected_from_feed(delivery_system: System, tenant: str) -> list[dict[str, Any]]:
    delivery_system.key = key(delivery_system, tenant)
    found = [change["data"] for change in delivery_system.get("/v1/changes")["items"]]
    delivery_system.key = ADMIN_KEY
    return found

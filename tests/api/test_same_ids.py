"""Two tenants whose mail comes by way of one source and bears the same ids: neither is shown anything of the other."""

import json
from typing import Any

import pytest

from shared.auth.keys import Scope, create_key
from tests import sinks
from tests.api.house import ADMIN_KEY, happening
from tests.estate import Estate
from tests.providers.samples import GIVEN, read_payloads

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
    told = happening("hard-bounced", f"ann@{tenant}.example", second=second, request_id=request_id, smtp_id=CHOSEN)
    told |= {"reason": f"nobody at {tenant}"}
    return json.dumps([told | {"customer_handle": tenant, "email": f"shop@{tenant}.example"}]).encode()


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


def source(estate: Estate, provider: str) -> None:
    """One that brings the events of both."""
    handles: dict[str, Any] = {"customer_handles": [ALPHA, ZULU]} if provider == "mailchannels" else {}
    estate.house.source("main", provider, **{**GIVEN[provider], **handles})


def key(estate: Estate, tenant: str) -> str:
    with estate.house.engine.begin() as connection:
        return create_key(connection, tenant, Scope.READ, tenant).secret


def shown(estate: Estate, secret: str) -> dict[str, str]:
    """What a key is shown, as text."""
    estate.house.key = secret
    paths = ("/v1/messages", "/v1/events", "/v1/changes")
    found = {path: json.dumps(estate.house.get(path)["items"]) for path in paths}
    estate.house.key = ADMIN_KEY
    return found


@pytest.mark.parametrize("provider", FROM_ONE_SOURCE)
@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
def test_one_message_id_of_two_tenants_is_two_messages(estate: Estate, provider: str, order: tuple[str, str]) -> None:
    house = estate.house
    source(estate, provider)
    secrets = {tenant: key(estate, tenant) for tenant in order}
    with sinks.http_sink() as sink:
        for tenant in order:
            estate.subscribe(f"{sink.url}/{tenant}", tenant=tenant)
        for tenant in order:
            house.process(house.keep(body(provider, tenant)))
        estate.deliver()
    assert len(house.items("/v1/messages", smtp_id=CHOSEN)) == len(order)
    for own, other in (order, order[::-1]):
        told = shown(estate, secrets[own])
        told |= {"webhook": " ".join(str(got.json) for got in sink.received if got.path == f"/{own}")}
        assert {place for place, text in told.items() if f"ann@{own}.example" not in text} == set()
        assert {place for place, text in told.items() if other in text} == set()


@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
@pytest.mark.parametrize("batch", ["one", "two"])
def test_a_message_that_its_provider_names_for_two_tenants_is_nobodys(
    estate: Estate, order: tuple[str, str], batch: str
) -> None:
    house = estate.house
    source(estate, "mailchannels")
    bodies = [of_mailchannels(tenant, request_id="r1") for tenant in order]
    if batch == "one":
        bodies = [json.dumps([*json.loads(bodies[0]), *json.loads(bodies[1])]).encode()]
    secrets = [key(estate, tenant) for tenant in order]
    with sinks.http_sink() as sink:
        for tenant in order:
            estate.subscribe(sink.url, tenant=tenant)
        for each in (*bodies, of_mailchannels(ALPHA, request_id="r1", second=9)):
            house.process(house.keep(each))
        estate.deliver()
    assert [message["tenant"] for message in house.items("/v1/messages")] == [None]
    assert [shown(estate, secret) for secret in secrets] == [dict.fromkeys(shown(estate, secrets[0]), "[]")] * 2
    assert sink.received == []


def test_a_webhook_tells_a_tenant_what_the_feed_does(estate: Estate) -> None:
    house = estate.house
    source(estate, "mailchannels")
    with sinks.http_sink() as sink:
        paths = {
            estate.subscribe(f"{sink.url}/{tenant}", tenant=tenant)["id"]: f"/{tenant}"
            for tenant in (ALPHA, ZULU, None)
        }
        house.process(house.keep(of_mailchannels(ALPHA, request_id="r1")))
        evidence = house.items("/v1/events")[0]["id"]
        house.execute(
            "INSERT INTO state_changes (type, event_id, data) VALUES ('suppression.added', %(evidence)s,"
            " jsonb_build_object('tenant', %(zulu)s::text))",
            evidence=evidence,
            zulu=ZULU,
        )
        estate.deliver()
    got = {path: [request.json["data"] for request in sink.received if request.path == path] for path in paths.values()}
    for tenant in (ALPHA, ZULU):
        assert got[f"/{tenant}"] == told_by_the_feed(estate, tenant)
    assert [told["event"] and told["event"]["id"] for told in got[f"/{ZULU}"]] == [None]
    assert [told["event"]["id"] for told in got["/None"]] == [evidence, evidence]
    for delivery in estate.deliveries():
        case = house.get(f"/v1/deliveries/{delivery['id']}")
        assert case["change"]["data"] in got[paths[delivery["subscription"]]]


def told_by_the_feed(estate: Estate, tenant: str) -> list[dict[str, Any]]:
    estate.house.key = key(estate, tenant)
    found = [change["data"] for change in estate.house.get("/v1/changes")["items"]]
    estate.house.key = ADMIN_KEY
    return found

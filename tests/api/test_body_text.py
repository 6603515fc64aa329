"""The text of inbound mail, in webhooks of subscriptions and in answers of the feed that ask for it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from shared.messages.event_queries import MAX_BODY_TEXT_BYTES
from tests.support import http_sink
from tests.support.http_sink import HttpSink
from tests.support.system import System
from workers import process_receipts
from workers.jobs import runner

TEXT = "Where is my order?\nAnn"
ANN = "ann@example.net"
MAPPING = {
    "authentication": {"kind": "basic"},
    "fields": {"type": "kind", "recipient": "to"},
    "types": {"mail": "inbound"},
}


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def mail(text: Any, *recipients: str, project: str = "acme", event_id: str = "e-1") -> Mapping[str, Any]:
    """A mail as MailWebhook posts it."""
    return {
        "schema": {"name": "mailwebhook.generic", "version": 1},
        "event": {"id": event_id, "project_id": project},
        "message": {"message_id": f"<{event_id}@mail.example>", "from": {"email": ANN}, "subject": "A question"},
        "envelope": {"rcpt_to": list(recipients or ("shop@example.com",))},
        "body": {"text": text, "attachments": []},
    }


def receive(system: System, body: Mapping[str, Any] | bytes, slug: str = "main") -> None:
    system.process_receipt(system.queue_body(body if isinstance(body, bytes) else json.dumps(body).encode(), slug))


@pytest.fixture
def system(delivery_system: System) -> System:
    delivery_system.create_source("main", "mailwebhook", signing_secrets={"k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"})
    return delivery_system


def texts(system: System, **query: Any) -> list[Any]:
    """What the feed has of each inbound mail; "absent" where there is no field."""
    changes = system.get("/v1/changes", types="inbound.*", **query)["items"]
    return [change["data"].get("body_text", "absent") for change in changes]


def test_a_webhook_has_the_text_only_if_its_subscription_asks_for_it(system: System, sink: HttpSink) -> None:
    asking = system.create_subscription(f"{sink.url}/asking", include_body_text=True)
    silent = system.create_subscription(f"{sink.url}/silent")
    system.create_subscription(f"{sink.url}/cloud", include_body_text=True, payload="cloudevents")
    receive(system, mail(TEXT, "shop@example.com", "orders@example.com"))
    system.deliver()
    expected = {"text": TEXT, "truncated": False, "original_bytes": len(TEXT)}
    received = {
        path: [one.json["data"].get("body_text", "absent") for one in sink.received if one.path == path]
        for path in ("/asking", "/silent", "/cloud")
    }
    assert received == {"/asking": [expected] * 2, "/silent": ["absent"] * 2, "/cloud": [expected] * 2}

    def body_shown(subscription: dict[str, Any]) -> Any:
        delivery = system.list_deliveries(subscription=subscription["id"])[0]
        return system.get(f"/v1/deliveries/{delivery['id']}")["change"]["data"].get("body_text", "absent")

    assert [body_shown(one) for one in (asking, silent)] == [expected, "absent"]


def test_the_feed_has_the_text_only_if_asked(system: System) -> None:
    receive(system, mail(TEXT))
    assert texts(system) == ["absent"]
    assert texts(system, include_body_text="true") == [{"text": TEXT, "truncated": False, "original_bytes": 22}]


def test_a_change_of_another_type_has_no_such_field(system: System) -> None:
    system.create_source("mc")
    event = {"event": "opened", "email": "shop@example.com", "recipients": [ANN], "request_id": "r1", "timestamp": 1}
    system.process_events({**event, "event": "open"}, slug="mc")
    (change,) = system.get("/v1/changes", include_body_text="true")["items"]
    assert "body_text" not in change["data"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x" * MAX_BODY_TEXT_BYTES, ("x" * MAX_BODY_TEXT_BYTES, False, MAX_BODY_TEXT_BYTES)),
        ("x" * (MAX_BODY_TEXT_BYTES + 1), ("x" * MAX_BODY_TEXT_BYTES, True, MAX_BODY_TEXT_BYTES + 1)),
        ("xx" + "€" * 30_000, ("xx" + "€" * ((MAX_BODY_TEXT_BYTES - 2) // 3), True, 90_002)),
        ("half \ud800", ("half \ufffd", False, 8)),
        ("", None),
        (None, None),
        (["a"], None),
    ],
    ids=["at the limit", "over it", "cut between characters", "a lone surrogate", "empty", "null", "a list"],
)
def test_a_text_is_cut_and_marked(system: System, text: object, expected: tuple[str, bool, int] | None) -> None:
    receive(system, mail(text))
    (found,) = texts(system, include_body_text="true")
    assert (found and tuple(found.values())) == expected


@pytest.mark.parametrize(
    ("provider", "credentials", "body"),
    [
        ("postmark", {"username": "u", "password": "p"}, {"FromFull": {"Email": ANN}, "From": ANN,
            "To": "shop@example.com", "MessageID": "m", "TextBody": TEXT, "HtmlBody": "<p>"}),
        ("mailersend", {"signing_secret": "s" * 32}, {"type": "inbound.message", "data": {"id": "1", "text": TEXT,
            "recipients": {"rcptTo": [{"email": "shop@example.com"}]}, "from": {"email": ANN}}}),
        ("generic", {"username": "u", "password": "p"}, {"kind": "mail", "plain": TEXT, "to": "shop@example.com"}),
    ],
)  # fmt: skip
def test_each_provider_has_its_place_for_the_text(
    system: System, provider: str, credentials: dict[str, Any], body: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"generic": MAPPING} if provider == "generic" else {}
    source = system.add_source(provider, provider, credentials, **settings)
    system.store_receipt(source, json.dumps(body).encode())
    process_receipts.process_due(system.ctx)
    assert [found["text"] for found in texts(system, include_body_text="true")] == [TEXT]


def test_another_tenant_gets_no_text(system: System, sink: HttpSink) -> None:
    system.create_subscription(f"{sink.url}/acme", tenant="acme", include_body_text=True)
    system.create_subscription(f"{sink.url}/other", tenant="other", include_body_text=True)
    receive(system, mail(TEXT, project="acme"))
    system.deliver()
    assert [(one.path, one.json["data"]["body_text"]["text"]) for one in sink.received] == [("/acme", TEXT)]


def test_after_an_erasure_the_text_is_gone(system: System, sink: HttpSink) -> None:
    system.create_subscription(sink.url, include_body_text=True)
    receive(system, mail(TEXT))
    job = system.call("POST", "/v1/erasures", {"address": ANN}).get_json()
    for _ in range(100):
        if system.get(f"/v1/jobs/{job['id']}")["state"] == "done":
            break
        runner.run_due(system.ctx)
    assert texts(system, include_body_text="true") == [None]
    system.deliver()
    assert [one.json["data"]["body_text"] for one in sink.received] == [None]
    assert ANN not in sink.received[0].body.decode()


def test_a_damaged_request_has_no_text_and_stops_no_answer(system: System) -> None:
    receive(system, mail(TEXT))
    assert texts(system, include_body_text="true")[0]["text"] == TEXT
    system.execute("UPDATE receipts SET content = 'damaged'")
    assert texts(system, include_body_text="true") == [None]

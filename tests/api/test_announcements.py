"""Announced messages: known before their provider's first event, and the same message afterwards, in any order."""

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.events import identity
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from tests.support import signed_requests
from tests.support.system import System, mailchannels_event

ANN, BOB = "ann@example.net", "bob@example.net"
SEND: dict[str, Any] = {
    "source": "main",
    "request_id": "r1",
    "smtp_id": "<m1@shop.example>",
    "sender": "Shop <SHOP@example.com>",
    "recipients": [ANN, "Bob <BOB@example.net>", ANN],
    "submitted_at": "2025-12-31T23:59:00Z",
}


def test_an_announced_message_waits_as_submitted(system: System) -> None:
    system.create_source()
    answer = system.call("POST", "/v1/messages", SEND)
    assert answer.status_code == 201
    message = answer.get_json()
    assert answer.headers["Location"] == f"/v1/messages/{message['id']}"
    assert (message["sender"], message["smtp_id"]) == ("shop@example.com", "m1@shop.example")
    assert (message["submitted_at"], message["first_event_at"]) == ("2025-12-31T23:59:00Z", None)
    assert [(entry["recipient"], entry["status"]) for entry in message["recipients"]] == [
        (ANN, "submitted"),
        (BOB, "submitted"),
    ]
    assert system.get("/v1/messages", status="submitted", smtp_id="m1@shop.example")["items"] == [message]


def test_announcing_again_changes_nothing(system: System) -> None:
    system.create_source()
    without_time = {name: value for name, value in SEND.items() if name != "submitted_at"}
    first = system.call("POST", "/v1/messages", without_time).get_json()
    again = system.call("POST", "/v1/messages", without_time)
    assert again.status_code == 200
    assert again.get_json() == first
    assert system.get("/v1/changes")["items"] == []


@pytest.mark.parametrize("order", ["announced first", "event first"])
def test_announcement_and_events_are_one_message_in_any_order(system: System, order: str) -> None:
    system.create_source()
    events = [
        mailchannels_event("processed", ANN, smtp_id="<m1@shop.example>"),
        mailchannels_event("delivered", ANN, second=5),
    ]
    if order == "event first":
        system.process_events(*events)
    system.call("POST", "/v1/messages", SEND)
    if order == "announced first":
        system.process_events(*events)
    (message,) = system.get("/v1/messages")["items"]
    assert message["first_event_at"] == "2026-01-01T00:00:00Z"
    assert message["submitted_at"] == "2025-12-31T23:59:00Z"
    assert [(entry["recipient"], entry["status"]) for entry in message["recipients"]] == [
        (ANN, "delivered"),
        (BOB, "submitted"),
    ]


def test_an_event_keeps_what_it_says_if_its_message_is_announced_otherwise(system: System) -> None:
    system.create_source()
    system.process_events(mailchannels_event("processed", ANN, email="shop@example.com"))
    system.call("POST", "/v1/messages", SEND | {"sender": "another@example.com"})
    (message,) = system.get("/v1/messages")["items"]
    (event,) = system.list_items("/v1/events")
    assert (message["sender"], event["sender"]) == ("another@example.com", "shop@example.com")


def test_an_open_says_more_than_an_announcement_and_less_than_any_statement(system: System) -> None:
    system.create_source()
    system.call("POST", "/v1/messages", SEND)
    system.process_events(mailchannels_event("open", ANN))
    (message,) = system.get("/v1/messages")["items"]
    assert message["recipients"][0]["status"] == "sent"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"source": "nobody"}, "source"),
        ({"recipients": []}, "recipients"),
        ({"recipients": [" "]}, "recipients"),
        ({"recipients": [ANN, " "]}, "recipients"),
        ({"recipients": [ANN, "ann"]}, "recipients"),
        ({"recipients": [ANN, "@example.net"]}, "recipients"),
        ({"recipients": ["ann@"]}, "recipients"),
        ({"recipients": ["ann@example.net, bob@example.net"]}, "recipients"),
        ({"recipients": ["<>"]}, "recipients"),
        ({"sender": "shop"}, "sender"),
        ({"recipients": [""]}, "recipients.0"),
        ({"sender": None}, "sender"),
        ({"request_id": None, "smtp_id": None}, "request_id"),
        ({"submitted_at": "today"}, "submitted_at"),
        ({"sender": "a\0b"}, "body"),
    ],
    ids=str,
)
def test_a_wrong_announcement_is_refused(system: System, change: dict[str, Any], field: str) -> None:
    system.create_source()
    body = {name: value for name, value in {**SEND, **change}.items() if value is not None}
    answer = system.call("POST", "/v1/messages", body)
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]) == [field]
    assert system.get("/v1/messages")["items"] == []


def test_the_sender_may_be_the_null_reverse_path(system: System) -> None:
    system.create_source()
    assert system.call("POST", "/v1/messages", {**SEND, "sender": " <> "}).status_code == 201
    assert [message["sender"] for message in system.get("/v1/messages")["items"]] == ["<>"]


def test_a_recipient_without_a_domain_is_named(system: System) -> None:
    system.create_source()
    answer = system.call("POST", "/v1/messages", {**SEND, "recipients": [ANN, "ann"]}).get_json()
    assert answer["errors"] == {"recipients": ["'ann' is not an address: it has no @ and no domain"]}


def test_a_source_that_only_receives_cannot_announce_messages(system: System) -> None:
    system.create_source(provider="mailwebhook", signing_secrets={"k": "a secret"})
    answer = system.call("POST", "/v1/messages", SEND)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["source"])


def test_a_message_id_is_announced_for_the_only_tenant_of_a_source(system: System) -> None:
    system.create_source()
    by_smtp_id = {**SEND, "recipients": [ANN]}
    del by_smtp_id["request_id"]
    assert system.call("POST", "/v1/messages", by_smtp_id).status_code == 201
    system.process_events(mailchannels_event("open", ANN, request_id="", smtp_id="<m1@shop.example>"))
    (message,) = system.get("/v1/messages")["items"]
    assert [(entry["status"], entry["opened"]) for entry in message["recipients"]] == [("sent", True)]


@pytest.mark.parametrize("tenant", ["alpha", "zulu"])
def test_a_source_of_several_tenants_needs_the_tenant_beside_a_message_id(system: System, tenant: str) -> None:
    system.create_source(customer_handles=["alpha", "zulu"])
    assert system.call("POST", "/v1/messages", SEND).status_code == 201
    by_smtp_id = {name: value for name, value in SEND.items() if name != "request_id"}
    for wish in ({}, {"tenant": "another"}):
        answer = system.call("POST", "/v1/messages", by_smtp_id | wish)
        assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["tenant"])
    assert system.call("POST", "/v1/messages", by_smtp_id | {"tenant": tenant}).status_code == 201
    opened = mailchannels_event("open", ANN, request_id="", smtp_id="<m1@shop.example>") | {"customer_handle": "alpha"}
    system.process_events(opened)
    with_event = [message for message in system.get("/v1/messages")["items"] if message["first_event_at"]]
    assert [message["submitted_at"] is not None for message in with_event] == [tenant == "alpha"]


def test_an_announcement_without_a_tenant_is_for_a_source_without_tenants(system: System) -> None:
    system.create_source(provider="ark", **signed_requests.GIVEN["ark"])
    smtp_id = json.loads(signed_requests.read_payloads("ark")["sent"])["message"]["message_id"]
    by_smtp_id = {**SEND, "smtp_id": smtp_id, "recipients": ["maria@customer.example"]}
    system.call("POST", "/v1/messages", by_smtp_id)
    system.process_receipt(system.queue_body(signed_requests.read_payloads("ark")["sent"]))
    (message,) = system.get("/v1/messages")["items"]
    assert [entry["status"] for entry in message["recipients"]] == ["delivered"]


BODIES: dict[str, tuple[dict[str, Any], bytes, dict[str, str]]] = {
    # credentials, a body, and the ids that its sender knew
    "mailchannels": (
        {"customer_handles": ["acct"]},
        json.dumps([{"customer_handle": "acct", **mailchannels_event("delivered", ANN, smtp_id="<m1@x>")}]).encode(),
        {"request_id": "r1", "smtp_id": "<m1@x>"},
    ),
    "mailchannels without request": (
        {"customer_handles": ["acct"]},
        json.dumps(
            [{"customer_handle": "acct", **mailchannels_event("open", ANN, request_id="", smtp_id="<m1@x>")}]
        ).encode(),
        {"smtp_id": "<m1@x>"},
    ),
    "ark": ({}, signed_requests.read_payloads("ark")["sent"], {}),
    "ark of a tenant": ({"tenant_id": "t-1/2"}, signed_requests.read_payloads("ark")["sent"], {}),
    "postal": ({"jwks": signed_requests.jwks("rsa-key")}, signed_requests.read_payloads("postal")["sent"], {}),
    "cloudmailin": (
        {"username": "u", "password": "p"},
        b'{"events": [{"kind": "dispatch", "recipient": "a@example.net", "message_id": "m-1"}]}',
        {"request_id": "m-1"},
    ),
    "ses": (
        {"topic_arns": ["arn:aws:sns:eu-west-1:123456789012:events"]},
        b'{"eventType": "Send", "mail": {"messageId": "m-1", "destination": ["a@example.net"]}, "send": {}}',
        {"request_id": "m-1"},
    ),
    "sendgrid": (
        signed_requests.dialect("sendgrid").credentials(),
        b'[{"event": "open", "email": "a@example.net", "sg_message_id": "m-1.recvd-5f54b5d587-2r5pn-1-5DC32E1B-39.0"}]',
        {"request_id": "m-1"},
    ),
    "postmark": (
        {"username": "u", "password": "p"},
        b'{"RecordType": "Delivery", "MessageID": "m-1", "Recipient": "a@example.net"}',
        {"request_id": "m-1"},
    ),
    "resend": (
        {"secrets": ["whsec_AAAA"]},
        b'{"type": "email.sent", "data": {"email_id": "m-1", "to": ["a@example.net"]}}',
        {"request_id": "m-1"},
    ),
    "standardwebhooks": (
        {"secrets": ["whsec_AAAA"]},
        b'{"type": "email.sent", "data": {"message_id": "m-1", "to": ["a@example.net"]}}',
        {"provider_message_id": "m-1"},
    ),
    "mailgun": (
        {"signing_key": "key"},
        b'{"event-data": {"event": "opened", "recipient": "a@b.c", "message": {"headers": {"message-id": "m@x"}}}}',
        {"smtp_id": "<m@x>"},
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_an_announcement_names_the_message_as_its_provider_does(case: str) -> None:
    name = case.partition(" ")[0]
    credentials, body, known = BODIES[case]
    provider = PROVIDERS[name]
    ready = provider.read_credentials(credentials, {}, SourceSettings())
    if name == "ark":
        ready = replace(ready, accepts_without_tenant=True)
    event = provider.parse(body, ready)[0]
    tenant = next(iter(provider.tenants(ready)), None)
    given = known or {"smtp_id": f"<{event.smtp_id}>"}
    assert event.message_key is not None
    assert identity.build_message_key(name, tenant=tenant, **given) == event.message_key


def test_every_provider_has_a_rule_or_sends_nothing() -> None:
    assert set(identity.MESSAGE_KEY_RULES) == set(PROVIDERS) - {"mailwebhook"}


def test_many_sends_are_announced_at_once_and_again_without_effect(system: System) -> None:
    system.create_source()
    sends = [{**SEND, "request_id": f"r{number}", "smtp_id": f"m{number}"} for number in range(1000)]
    first = system.call("POST", "/v1/messages/bulk", {"messages": sends})
    assert first.status_code == 200, first.text
    results = first.get_json()["results"]
    assert all(entry["is_new"] for entry in results)
    assert [system.get(f"/v1/messages/{results[n]['id']}")["request_id"] for n in (0, 7, 999)] == ["r0", "r7", "r999"]
    again = system.call("POST", "/v1/messages/bulk", {"messages": sends[::-1]}).get_json()["results"]
    assert again == [{**entry, "is_new": False} for entry in results[::-1]]


def test_a_send_that_is_in_the_list_twice_is_one_message(system: System) -> None:
    system.create_source()
    one, other = system.call("POST", "/v1/messages/bulk", {"messages": [SEND, SEND]}).get_json()["results"]
    assert (one["id"], one["is_new"], other["is_new"]) == (other["id"], True, False)


def test_if_one_of_many_is_wrong_none_is_announced_and_each_error_names_position_and_field(system: System) -> None:
    system.create_source()
    wrong = [{**SEND, "source": "absent"}, {**SEND, "recipients": [" "]}]
    errors = system.call("POST", "/v1/messages/bulk", {"messages": [SEND, *wrong]}).get_json()["errors"]
    assert errors.keys() == {"messages.1.source", "messages.2.recipients"}
    assert "absent" in errors["messages.1.source"][0]
    errors = system.call("POST", "/v1/messages/bulk", {"messages": [SEND, {"source": "main"}]}).get_json()["errors"]
    assert errors.keys() == {"messages.1.sender", "messages.1.recipients"}
    assert system.call("POST", "/v1/messages/bulk", {"messages": [SEND] * 1001}).status_code == 422
    assert system.get("/v1/messages")["items"] == []

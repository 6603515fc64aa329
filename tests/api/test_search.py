"""The search for messages: one text, which may be an id, a part of an address, a domain, or words of the subject."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.messages import search_store
from shared.vocabulary import Status
from tests.support.system import System, mailchannels_event
from tests.support.tenants import ALPHA, BRAVO


def send(system: System, recipient: str, number: int, subject: str = "", **fields: Any) -> None:
    """One message to a recipient."""
    mail = {"request_id": f"request-{number}", "smtp_id": f"<smtp-{number}@shop.example>"}
    system.process_events(mailchannels_event("delivered", recipient, **mail | fields))
    if subject:  # as a later event of another provider would give it
        name_subject(system, f"request-{number}", subject)


def name_subject(system: System, request_id: str, subject: str) -> None:
    system.execute(
        "UPDATE messages SET subject = %(subject)s WHERE request_id = %(request_id)s",
        subject=subject,
        request_id=request_id,
    )


def found(system: System, **query: Any) -> list[str]:
    return [item["request_id"] for item in system.list_items("/v1/messages", **query)]


@pytest.fixture(params=["queued", "indexed", "both"])
def mails(system: System, request: pytest.FixtureRequest) -> System:
    """Some messages: in the queue, with signatures, or first with them and changed since."""
    system.create_source()
    send(system, "nadia.berg@post.example", 1, subject="Your invoice 2003")
    send(system, "omar@mail.post.example", 2, subject="Password reset")
    if request.param == "both":
        index(system)
    send(system, "nadia@other.example", 3, subject="Invoice for 100 % wool")
    if request.param == "indexed":
        index(system)
    return system


def index(system: System) -> None:
    with system.engine.begin() as connection:
        assert search_store.index_queued(connection, least=1) > 0


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("request-2", [2]),
        ("<smtp-3@shop.example>", [3]),
        ("nadia", [3, 1]),
        ("ia.berg@po", [1]),
        ("NADIA.Berg@post.example", [1]),
        ("post.example", [2, 1]),
        ("@post.example", [1]),
        ("invoice", [3, 1]),
        ("INVOICE 2003", [1]),
        ("nadia wool", [3]),
        ("nadia password", []),
        ("0 %", [3]),
        ("_", []),
        ("om", [3, 2, 1]),
        ("zaphod", []),
    ],
)
def test_one_text_finds_ids_addresses_domains_and_subjects(mails: System, text: str, numbers: list[int]) -> None:
    assert found(mails, q=text) == [f"request-{number}" for number in numbers]


def test_our_id_and_a_filter_beside_the_search(mails: System) -> None:
    (message,) = mails.list_items("/v1/messages", request_id="request-1")
    assert found(mails, q=message["id"]) == ["request-1"]
    assert found(mails, q="nadia", status=Status.DELIVERED, source="main") == ["request-3", "request-1"]
    assert found(mails, q="nadia", status=Status.BOUNCED) == []
    assert found(mails, q="nadia", recipient="nadia@other.example") == ["request-3"]
    assert found(mails, q="nadia", since=(datetime.now(UTC) + timedelta(hours=1)).isoformat()) == []


def test_filters_of_domain_subject_and_type(mails: System) -> None:
    assert found(mails, domain="Post.Example") == ["request-1"]
    assert found(mails, subject="wool invoice") == ["request-3"]
    assert found(mails, subject="nadia") == []
    assert found(mails, type="delivered") == ["request-3", "request-2", "request-1"]
    assert found(mails, type="opened", q="nadia") == []
    assert found(mails, tag="nothing") == []


def test_pages_of_a_search_are_disjoint_and_complete(mails: System) -> None:
    first = mails.get("/v1/messages", q="nadia", limit=1)
    second = mails.get("/v1/messages", q="nadia", limit=1, cursor=first["next_cursor"])
    assert [item["request_id"] for item in first["items"] + second["items"]] == ["request-3", "request-1"]


def test_a_subject_that_comes_later_is_found(system: System) -> None:
    system.create_source()
    mail: dict[str, Any] = {"request_id": "request-1", "smtp_id": "<smtp-1@shop.example>"}
    system.process_events(mailchannels_event("processed", "a@post.example", **mail))
    index(system)
    name_subject(system, "request-1", "Farewell")
    assert found(system, q="farewell") == ["request-1"]
    index(system)
    assert found(system, q="farewell") == ["request-1"]


def test_a_recipient_that_comes_later_is_found(system: System) -> None:
    system.create_source()
    mail: dict[str, Any] = {"request_id": "request-1", "smtp_id": "<smtp-1@shop.example>"}
    system.process_events(mailchannels_event("delivered", "a@post.example", **mail))
    index(system)
    system.process_events(mailchannels_event("delivered", "late@riser.example", **mail))
    assert found(system, q="riser") == ["request-1"]


def test_an_announced_message_is_found(system: System) -> None:
    system.create_source()
    announced = {"source": "main", "request_id": "r", "sender": "shop@x.example", "recipients": ["ann@post.example"]}
    assert system.call("POST", "/v1/messages", announced).status_code == 201
    assert found(system, q="ann@po") == ["r"]


def test_many_rows_of_signatures_are_read_from_the_newest(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.create_source()
    for number in range(12):
        send(system, f"nadia{number}@post.example", number)
        index(system)
    assert len(found(system, q="nadia")) == 12
    for limit in (1, 5):
        cursor, seen = None, []
        while True:
            page = system.get("/v1/messages", q="nadia", limit=limit, **({"cursor": cursor} if cursor else {}))
            seen += [item["request_id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == [f"request-{number}" for number in reversed(range(12))]


def test_a_tenant_finds_only_its_own(system: System) -> None:
    system.create_source("main", customer_handles=[ALPHA, BRAVO])
    for number, name in enumerate((ALPHA, BRAVO)):
        send(system, f"nadia@{name}.example", number, customer_handle=name)
    assert found(system, q="nadia", tenant=BRAVO) == ["request-1"]
    system.key = system.call("POST", "/v1/keys", {"name": "a", "scope": "read", "tenant": ALPHA}).get_json()["key"]
    assert found(system, q="nadia") == ["request-0"]
    assert found(system, q="request-1") == []
    assert system.call("GET", "/v1/messages", q="nadia", tenant=BRAVO).status_code == 403

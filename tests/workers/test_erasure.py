"""Erasing an address: it stands nowhere any more, it stays suppressed, and others keep their events and states."""

import json
import re
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from types import ModuleType
from typing import Any, cast
from urllib.parse import unquote
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import Connection

from shared.auth import idempotency as idempotent_answers
from shared.encryption import SecretsError
from shared.erasure import service, store
from shared.errors import ConflictError
from shared.events.event import Event
from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.messages import announcements, search_store, signatures
from shared.messages.announcements import Send
from shared.postgres import stored_requests
from shared.providers.api.base import ListedSuppression, ProviderApi
from shared.receipts import queries as receipt_queries
from shared.receipts import store as receipts
from shared.receipts.store import Refusal, record_refusals
from shared.reprocessing import reprocess
from shared.sources.source import Source
from shared.suppression import csv_files, provider_sync
from shared.suppression import jobs as suppression_jobs
from shared.suppression import queries as suppression_queries
from shared.suppression import store as suppressions
from shared.suppression.csv_files import Defaults
from shared.suppression.queries import SuppressionFilters
from shared.suppression.store import NewEntry
from shared.vocabulary import ALL_MAIL, JobState, SuppressionOrigin, SuppressionReason
from tests.support import http_sink, rows
from tests.support.rows import build_receipt
from tests.support.system import System, open_system, replace_parser
from workers import process_receipts as draining
from workers import reprocess_receipts, verification
from workers import suppressions as workers_suppressions
from workers.deliveries import payload_cache as bodies
from workers.jobs import erase as erasing
from workers.jobs import runner as working
from workers.jobs.progress import Progress
from workers.receipt_batch import ProcessedCounts

ZAPHOD = "zaphod@betelgeuse.example"
OTHERS = (
    "ford@betelgeuse.example",
    "bigzaphod@betelgeuse.example",
    "zaphod@betelgeuse.example.org",
    "arthur@earth.example",
)
NOW = datetime.now(UTC)
_ZSTANDARD = b"\x28\xb5\x2f\xfd"  # a frame begins with it (RFC 8878)
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_HIS = re.compile(r"(?<![\w.])zaphod@betelgeuse\.example(?!\.?\w)")


@pytest.fixture
def source(system: System) -> Source:
    return system.add_source("mc", "mailchannels", {"customer_handles": ["acct"]})


def item(kind: str, *recipients: str, second: int = 0, request_id: str = "r1", **more: Any) -> dict[str, Any]:
    return {
        "customer_handle": "acct",
        "event": kind,
        "email": "shop@heart-of-gold.example",
        "timestamp": int(NOW.timestamp()) - 3600 + second,
        "request_id": request_id,
        "recipients": list(recipients),
        **more,
    }


def drain(system: System) -> None:
    system.make_receipts_due()
    draining.process_due(system.ctx)
    while reprocess_receipts.reprocess_due(system.ctx).receipts:
        pass


def process_items(system: System, source: Source, *items: Mapping[str, Any]) -> UUID:
    """A batch, processed."""
    receipt = system.store_receipt(source, json.dumps(items).encode())
    drain(system)
    return receipt


def ask(system: System, address: str = ZAPHOD) -> UUID:
    with system.ctx.engine.begin() as connection:
        return suppression_jobs.create_erasure(
            connection, address, system.ctx.hasher, system.ctx.vault, asked_by="ann", now=datetime.now(UTC)
        )


def found(system: System, job_id: UUID) -> Job:
    with system.ctx.engine.begin() as connection:
        job = jobs.find(connection, job_id)
    assert job is not None
    return job


def erase(system: System, address: str = ZAPHOD, *, turn_seconds: float = 60) -> Job:
    job_id = ask(system, address)
    while not found(system, job_id).state.is_over:
        working.run_due(system.ctx, turn_seconds=turn_seconds)
        assert found(system, job_id).error is None
    job = found(system, job_id)
    assert job.state is JobState.DONE, job.error
    return job


def pseudonym(system: System, address: str = ZAPHOD) -> str:
    return f"{system.ctx.hasher.hash_address(address)}@erased.invalid"


def columns(system: System) -> list[tuple[str, str]]:
    """Every column of every table that can hold a text."""
    return [
        (table, column)
        for table, column in system.rows(
            "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
            " AND data_type IN ('text', 'json', 'jsonb', 'bytea', 'character varying', 'ARRAY') ORDER BY 1, 2"
        )
        if not re.fullmatch(r"[a-z_]+_\d{8}", table)
    ]


def plain(value: Any) -> str:
    """A value as text, whatever it is, without escapes and in lower case."""
    text = bytes(value).decode("latin-1") if isinstance(value, bytes | memoryview) else str(value)
    for _ in range(2):
        text = _UNICODE.sub(lambda match: chr(int(match[1], 16)), unquote(text))
    return text.lower()


def opened(system: System, value: Any) -> Any:
    """What is sealed or compressed in a value; the value itself where nothing is."""
    if isinstance(value, bytes) and value.startswith(_ZSTANDARD):
        return "\n".join(map(str, stored_requests.unpack(value)))
    try:
        return b64decode(system.ctx.vault.open(value)["body"]) if isinstance(value, bytes) else value
    except (SecretsError, KeyError):
        return value


def places(system: System, his: re.Pattern[str] = _HIS) -> set[str]:
    """Where the address stands."""
    return {
        f"{table}.{column}"
        for table, column in columns(system)
        for (value,) in system.rows(f"SELECT {column} FROM {table}")
        if value is not None and his.search(plain(opened(system, value)))
    }


def stored_bodies(system: System) -> dict[UUID, bytes | None]:
    """The bodies of receipts that are not erased, by id."""
    rows = system.rows("SELECT id, body, content FROM receipts WHERE body IS NOT NULL OR content IS NOT NULL")
    return {receipt_id: stored_requests.body_of(*stored) for receipt_id, *stored in rows}


def suppressed(system: System, *addresses: str) -> list[str]:
    with system.ctx.engine.begin() as connection:
        keys = {system.ctx.hasher.hash_address(address): address for address in addresses}
        return sorted(keys[key] for key in suppressions.check(connection, list(keys), datetime.now(UTC)))


ESCAPED = (
    b'[{"customer_handle":"acct","event":"clicked","email":"shop@heart-of-gold.example","timestamp":%d,"request_id":'
    b'"r9","recipients":["z\\u0061phod\\u0040BETELGEUSE.example"],"url":"https:\\/\\/x.example\\/?u=zaphod%%40betelgeuse.example'
    b'&o=arthur%%40earth.example"}]'
) % int(NOW.timestamp())


def answer(system: System, connection: Connection, body: bytes) -> None:
    """Keep an answer to a request as the API does."""
    key, now = uuid4(), datetime.now(UTC)
    assert idempotent_answers.begin(connection, key, b"hash", now) is None
    sealed = system.ctx.vault.seal({"body": body})
    idempotent_answers.finish(connection, key, now, 201, [("Location", "/v1/keys/1")], sealed)


@pytest.fixture
def crowded(system: System, source: Source) -> System:
    """A Tidings in which the address stands wherever it can."""
    process_items(
        system,
        source,
        item(
            "hard-bounced",
            "Zaphod <ZAPHOD@Betelgeuse.Example>",
            *OTHERS,
            status="5.1.1",
            reason="no zaphod@betelgeuse.example",
        ),
        item("delivered", OTHERS[0], request_id="r2", reason="not about <Zaphod@betelgeuse.example>"),
    )
    process_items(system, source, item("soft-bounced", ZAPHOD, *OTHERS, request_id="r3", status="4.2.2"))
    system.store_receipt(source, ESCAPED)
    system.store_receipt(source, b"no JSON, from zaphod@betelgeuse.example, nor from arthur@earth.example")
    drain(system)
    system.quarantine(source, b"not verified: zaphod@betelgeuse.example", {}, key_id="k")
    process_items(system, source, {**item("delivered", OTHERS[3], request_id="r4"), "email": ZAPHOD})
    system.store_receipt(source, json.dumps([item("open", ZAPHOD, OTHERS[0], request_id="r5")]).encode())  # and waits
    with system.ctx.engine.begin() as connection:
        send = Send(source="mc", sender="a@x.example", recipients=[ZAPHOD, OTHERS[1]], request_id="r6")
        announcements.announce(connection, system.ctx.vault, send, NOW)
        keys = system.ctx.hasher
        for address in (ZAPHOD, OTHERS[0]):
            entry = NewEntry(
                key=keys.hash_address(address),
                address=address,
                domain=None,
                reason=SuppressionReason.MANUAL,
                types=ALL_MAIL,
                origin=SuppressionOrigin.PERSON,
                since=NOW,
                note=f"{address}, as zaphod@betelgeuse.example asked",
                actor="ann",
            )
            suppressions.add(connection, [entry], NOW)
        record_refusals(
            connection,
            [
                Refusal(
                    id=uuid4(), source="zaphod@betelgeuse.example", refused_at=NOW, status_code=401, reason="stale",
                    detail="for zaphod@betelgeuse.example", remote_ip=None,
                    headers='{"x": "Zaphod@betelgeuse.example"}', bytes=1,
                )
            ],
        )  # fmt: skip
        bad = b"email\n" + ZAPHOD.upper().encode() + b" and others\narthur@earth.example and others\n"
        for content, skip in (
            (bad, False),
            (b"email,note\nzaphod@betelgeuse.example,x\narthur@earth.example,y\n", True),
        ):
            suppression_jobs.create_csv_import(
                connection, content, Defaults(), skip_bad_lines=skip, asked_by="ann", now=datetime.now(UTC)
            )
        suppression_jobs.create_export(connection, SuppressionFilters(), asked_by="ann", now=datetime.now(UTC))
        for name in (ZAPHOD, OTHERS[0]):
            answer(system, connection, f'{{"address": "{name}"}}'.encode())
    while system.rows("SELECT 1 FROM jobs WHERE state IN ('queued', 'running')"):
        working.run_due(system.ctx)
    with system.ctx.engine.begin() as connection:
        suppression_jobs.create_csv_import(
            connection, b"email\nzaphod@betelgeuse.example\n", Defaults(), skip_bad_lines=False, asked_by="ann",
            now=datetime.now(UTC),
        )  # fmt: skip
    return system


def test_the_address_stands_nowhere_any_more(crowded: System) -> None:
    before = places(crowded)
    assert {
        "receipts.content", "events.recipient", "events.reason", "events.data",
        "recipient_states.recipient", "messages.sender", "suppressions.address", "suppressions.note",
        "suppression_history.note", "soft_bounces.recipient", "state_changes.recipient", "state_changes.data",
        "refusals.detail", "refusals.headers", "refusals.source", "job_files.content", "jobs.report",
        "idempotent_answers.body",
    } <= before  # fmt: skip
    job = erase(crowded)
    assert places(crowded) == set()
    assert job.report["receipts"] == 7
    assert job.report["entries"] == 3
    assert len(crowded.rows("SELECT key FROM idempotent_answers")) == 1, "that of somebody else is kept"


def test_it_stays_suppressed_and_the_list_no_longer_shows_the_address(crowded: System) -> None:
    assert suppressed(crowded, ZAPHOD) == [ZAPHOD]
    erase(crowded)
    assert suppressed(crowded, ZAPHOD, "ZAPHOD@betelgeuse.example") != []
    with crowded.ctx.engine.begin() as connection:
        entries = suppression_queries.get_entries(connection, crowded.ctx.hasher.hash_address(ZAPHOD))
    assert {(entry.address, entry.domain) for entry in entries} == {(None, None)}
    assert {entry.reason for entry in entries} == {"hard_bounce", "manual"}
    erased = crowded.rows("SELECT reason, actor FROM suppression_history WHERE action = 'erased' ORDER BY 1")
    assert {actor for _, actor in erased} == {"ann"}
    assert len(erased) == len(entries)


def test_no_signature_of_the_search_can_be_tested_for_the_address(system: System, source: Source) -> None:
    for number, name in enumerate((ZAPHOD, *OTHERS, ZAPHOD)):
        process_items(system, source, item("delivered", name, request_id=f"r{number}"))
    # Mail about him: the address is in a text that is no recipient.
    system.execute("UPDATE messages SET subject = 'For Zaphod@Betelgeuse.example' WHERE request_id = 'r4'")

    def indexed() -> None:
        with system.ctx.engine.begin() as connection:
            while search_store.index_queued(connection, least=1):
                pass

    def tested(words: str) -> set[str]:
        """The requests whose messages may contain the words, by their signatures."""
        with system.ctx.engine.begin() as connection:
            found = search_store.list_candidates(connection, signatures.of_texts([words]), limit=100).ids
        rows = system.rows("SELECT request_id FROM messages WHERE id = ANY(%(ids)s)", ids=list(found))
        return {request_id for (request_id,) in rows}

    indexed()
    assert tested(ZAPHOD) == {"r0", "r2", "r3", "r4", "r5"}
    erase(system)
    indexed()
    assert tested(ZAPHOD) == {"r2", "r3"}, "longer addresses, in which his is contained"
    assert [f"r{number}" in tested(name) for number, name in enumerate(OTHERS, 1)] == [True] * len(OTHERS)
    assert tested(pseudonym(system)) == {"r0", "r4", "r5"}


OF_OTHERS = (
    "SELECT message_id, recipient, status, status_at, opens, clicks, version FROM recipient_states WHERE recipient",
    "SELECT recipient, tenant, message_id, first_at, last_at FROM soft_bounces WHERE recipient",
    "SELECT key, tenant, reason, origin, address, domain, until, evidence_event_id FROM suppressions WHERE address",
    "SELECT id, type, recipient, message_id, occurred_at, classification FROM events WHERE recipient",
)


def test_others_keep_their_events_and_states_and_the_requests_that_do_not_name_the_address(crowded: System) -> None:
    drain(crowded)

    def of_others() -> list[list[Any]]:
        his = f"'{{{ZAPHOD},{pseudonym(crowded)}}}'"
        return [crowded.rows(f"{query} <> ALL({his}) ORDER BY 1, 2") for query in OF_OTHERS]

    bodies = stored_bodies(crowded)
    before = of_others()
    erase(crowded)
    assert of_others() == before
    assert stored_bodies(crowded) == {id_: body for id_, body in bodies.items() if not _HIS.search(plain(body))}
    assert crowded.rows("SELECT count(*) FROM events WHERE provider_object::text = '{}'") != [(0,)]
    assert crowded.rows("SELECT DISTINCT headers::text, idempotency_key FROM receipts WHERE content IS NULL") == [
        ("{}", None)
    ]


def test_what_events_have_from_their_message_is_erased_with_it(system: System, source: Source) -> None:
    for number, word in enumerate(("z", "a", "z")):
        campaign = f"{word} of {ZAPHOD}"
        process_items(system, source, item("open", OTHERS[0], second=number, email=ZAPHOD, campaign_id=campaign))
    assert {"messages.sender", "messages.campaign", "messages.first_values"} <= places(system)
    erase(system)
    assert places(system) == set()
    found = [(event["campaign"], event["sender"]) for event in system.list_items("/v1/events")]
    assert found == [(f"{word} of {pseudonym(system)}", pseudonym(system)) for word in ("z", "a", "z")]


@pytest.mark.parametrize("receipt", ["processed", "pending", "stored before 0024"])
def test_others_keep_the_objects_that_were_in_a_deleted_body(system: System, source: Source, receipt: str) -> None:
    shared = item("delivered", *OTHERS[1:3], request_id="r3")
    items = [item("delivered", ZAPHOD), item("delivered", OTHERS[0], request_id="r2"), shared]
    if receipt == "pending":
        system.store_receipt(source, json.dumps(items).encode())
    else:
        process_items(system, source, *items)
    if receipt == "stored before 0024":
        (body,) = stored_bodies(system).values()
        system.execute("UPDATE receipts SET headers = '{}', body = %(b)s, bytes = NULL, content = NULL", b=body)
        assert [event["provider_object"] for event in system.list_items("/v1/events")] != []
    erase(system)
    assert stored_bodies(system) == {}
    objects = {event["recipient"]: event["provider_object"] for event in system.list_items("/v1/events")}
    assert objects == {pseudonym(system): {}, OTHERS[0]: items[1], OTHERS[1]: shared, OTHERS[2]: shared}


def test_a_receipt_whose_body_was_deleted_says_so(crowded: System, source: Source) -> None:
    other = process_items(crowded, source, item("delivered", OTHERS[3], request_id="r7"))
    erase(crowded)
    with crowded.ctx.engine.begin() as connection:
        facts = receipt_queries.list_receipts(connection).items
        bodies = [receipts.get_body(connection, fact.id) for fact in facts]
    assert [found is not None and found.body is None for found in bodies] == [fact.id != other for fact in facts]
    assert [fact.id for fact in facts if fact.erased_at is None] == [other]
    assert {fact.bytes for fact in facts if fact.id != other} == {0}
    assert crowded.rows("SELECT DISTINCT bytes FROM parked_receipts") == [(0,)]


STATES = (
    "SELECT id, key, recipient, reason, data::text, provider_object::text FROM events ORDER BY id",
    "SELECT message_id, recipient, status, status_key, opens, clicks FROM recipient_states ORDER BY 1, 2",
    "SELECT key, tenant, reason, origin, since, until, evidence_key FROM suppressions ORDER BY 1, 2, 3, 4",
    "SELECT recipient, tenant, message_id, first_key, last_key FROM soft_bounces ORDER BY 1, 2, 3",
    "SELECT count(*) FROM state_changes",
)


def test_a_receipt_without_its_body_cannot_be_processed_again(crowded: System) -> None:
    erase(crowded)
    before = [crowded.rows(query) for query in STATES]
    erased = [row[0] for row in crowded.rows("SELECT receipt_id FROM erased_receipts")]
    with crowded.ctx.engine.begin() as connection:
        assert receipts.queue_reprocessing(connection, erased) == 0
        with pytest.raises(ConflictError, match="deleted by an erasure"):
            reprocess.preview(connection, erased[0], crowded.ctx.vault)
    drain(crowded)
    assert [crowded.rows(query) for query in STATES] == before
    crowded.assert_nothing_doubled()


def test_processing_others_of_the_same_messages_again_changes_and_announces_nothing(
    system: System, source: Source
) -> None:
    process_items(system, source, item("hard-bounced", ZAPHOD, OTHERS[0], status="5.1.1"))
    process_items(system, source, item("soft-bounced", ZAPHOD, OTHERS[0], request_id="r2", status="4.2.2"))
    others = [
        process_items(system, source, item("open", OTHERS[0], request_id=name, second=9)) for name in ("r1", "r2")
    ]
    erase(system)
    before = [system.rows(query) for query in STATES]
    with system.ctx.engine.begin() as connection:
        assert receipts.queue_reprocessing(connection, others) == 2
    drain(system)
    assert [system.rows(query) for query in STATES] == before
    system.assert_nothing_doubled()


def test_what_the_provider_sends_again_is_a_repetition_still(system: System, source: Source) -> None:
    happened = item("hard-bounced", ZAPHOD, OTHERS[0], status="5.1.1")
    process_items(system, source, happened)
    erase(system)
    events = system.rows("SELECT count(*) FROM events")
    again = process_items(system, source, happened, item("delivered", OTHERS[1], request_id="r8"))
    assert system.rows("SELECT count(*) FROM events WHERE id > %(id)s", id=again) == [(1,)]
    assert system.rows("SELECT count(*) FROM events") == [(events[0][0] + 1,)]


def test_the_same_request_is_a_repetition_still_although_its_body_is_gone(system: System, source: Source) -> None:
    body = json.dumps([item("hard-bounced", ZAPHOD, status="5.1.1")]).encode()
    system.store_receipt(source, body)
    drain(system)
    erase(system)
    with system.ctx.engine.begin() as connection:
        assert receipts.record(connection, [build_receipt(source, body, {})]) == set()


@pytest.mark.parametrize("late", [False, True])
def test_a_worker_that_has_read_a_receipt_writes_nothing_of_it(system: System, source: Source, *, late: bool) -> None:
    system.store_receipt(source, json.dumps([item("delivered", ZAPHOD, OTHERS[0])]).encode())
    token = uuid4()
    with system.ctx.engine.begin() as connection:
        claimed = receipts.claim(connection, limit=10, max_bytes=1 << 20, token=token, lease_seconds=60)
    if late:  # and no other worker has claimed it yet
        system.execute("UPDATE pending_receipts SET lease_until = now() - interval '1 s'")
    erase(system)
    done = ProcessedCounts()
    draining.process_batch(system.ctx, claimed, token, done)
    assert done.receipts == 0
    drain(system)
    assert system.recipient_statuses() == {pseudonym(system): "delivered", OTHERS[0]: "delivered"}
    assert places(system) == set()
    assert claimed[0].attempts == 1


def erase_while(system: System, others: Callable[[threading.Event, threading.Event], None]) -> None:
    """Erase while other transactions hold the address; they signal when they do, and continue on a signal."""
    reached, go = threading.Event(), threading.Event()
    jobs_of_erasures = "SELECT state FROM jobs WHERE kind = 'erase'"
    other = threading.Thread(target=others, args=(reached, go))
    other.start()
    assert reached.wait(60)
    erasure = threading.Thread(target=erase, args=(system,))
    erasure.start()
    erasure.join(1)  # it either waits for them by now, or has made sure that they write nothing
    go.set()
    other.join()
    erasure.join()
    assert system.rows(jobs_of_erasures) == [("done",)]


@pytest.mark.parametrize(
    ("module", "name"),
    [(csv_files, "read_record"), (suppressions, "stage"), (suppressions, "add")],
    ids=["has read", "keeps what it has read", "writes"],
)
def test_an_import_that_has_it_in_its_hands_does_not_bring_it_back(
    system: System, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    with system.ctx.engine.begin() as connection:
        content = f"email,note\n{ZAPHOD},x\narthur@earth.example,as {ZAPHOD} said\n".encode()
        suppression_jobs.create_csv_import(
            connection, content, Defaults(), skip_bad_lines=False, asked_by="ann", now=datetime.now(UTC)
        )

    def import_it(reached: threading.Event, go: threading.Event) -> None:
        original = getattr(module, name)

        def slow(*values: Any, **more: Any) -> Any:
            monkeypatch.undo()
            result = original(*values, **more)
            reached.set()
            assert go.wait(60)
            return result

        monkeypatch.setattr(module, name, slow)
        working.run_due(system.add_worker())

    erase_while(system, import_it)
    working.run_due(system.ctx)
    assert system.rows("SELECT state FROM jobs") == [("done",), ("done",)]
    assert suppressed(system, ZAPHOD, OTHERS[3]) == [OTHERS[3], ZAPHOD]
    assert places(system) == set()


def test_an_export_that_has_it_in_its_hands_does_not_keep_it(crowded: System, monkeypatch: pytest.MonkeyPatch) -> None:
    with crowded.ctx.engine.begin() as connection:
        suppression_jobs.create_export(connection, SuppressionFilters(), asked_by="ann", now=datetime.now(UTC))

    def export(reached: threading.Event, go: threading.Event) -> None:
        original = job_files.write

        def slow(*values: Any) -> None:
            monkeypatch.undo()
            reached.set()
            assert go.wait(60)
            original(*values)

        monkeypatch.setattr(job_files, "write", slow)
        working.run_due(crowded.add_worker())

    erase_while(crowded, export)
    working.run_due(crowded.ctx)
    assert places(crowded) == set()


def test_waits_for_a_transaction_that_is_suppressing_the_address(system: System) -> None:
    entry = NewEntry(
        key=system.ctx.hasher.hash_address(ZAPHOD),
        address=ZAPHOD,
        domain=None,
        reason=SuppressionReason.MANUAL,
        types=ALL_MAIL,
        origin=SuppressionOrigin.PROVIDER,
        since=NOW,
    )

    def add(reached: threading.Event, go: threading.Event) -> None:
        with system.add_worker().engine.begin() as connection:
            suppressions.add(connection, [entry], NOW)
            reached.set()
            assert go.wait(60)

    erase_while(system, add)
    assert suppressed(system, ZAPHOD) == [ZAPHOD]
    assert places(system) == set()


def test_a_delivery_under_way_is_waited_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loopback = (ip_network("127.0.0.0/8"),)
    monkeypatch.setattr(service, "CACHED_SECONDS", 0.0)
    monkeypatch.setattr(erasing, "WAIT_SECONDS", 0.05)
    with (
        http_sink.http_sink() as sink,
        open_system(database_url, egress_allow=loopback) as system,
    ):
        system.insert_subscription(sink.url, timeout_s=30)
        system.log_change(recipient=ZAPHOD, status="bounced")

        def deliver(reached: threading.Event, go: threading.Event) -> None:
            def echo(handler: BaseHTTPRequestHandler, _closing: threading.Event) -> None:
                reached.set()
                assert go.wait(60)
                http_sink.answer(200, ZAPHOD.encode())(handler, _closing)

            sink.then(echo)
            system.deliver()

        erase_while(system, deliver)
        assert system.delivery_statuses() == [("delivered", 1)]
        [(_, _, _, asked, answered)] = system.delivery_attempts()
        assert (asked, answered) == ({}, {})
        assert places(system) == set()


def test_an_erasure_waits_for_what_deliverers_remember(system: System) -> None:
    assert service.CACHED_SECONDS > bodies.TTL_SECONDS
    with system.ctx.engine.begin() as connection:
        assert store.cached_payloads_expire_at(connection, 60) is None
        rows.insert_subscription(connection, system.ctx.vault, "http://127.0.0.1:1/")
        moment = store.cached_payloads_expire_at(connection, 60)
        assert moment is not None
        assert store.has_calls_from_before(connection, moment.isoformat())
        assert not store.has_calls_from_before(connection, NOW.isoformat())


@pytest.mark.parametrize("kind", ["hard-bounced", "soft-bounced"])
def test_events_processed_afterwards_suppress_the_erased_address(system: System, source: Source, kind: str) -> None:
    for number in range(5):
        event = item(kind, ZAPHOD, request_id=f"r{number}", status="5.1.1" if kind == "hard-bounced" else "4.2.2")
        system.store_receipt(source, json.dumps([event]).encode())
    erase(system)
    drain(system)
    workers_suppressions.evaluate_soft_bounces(system.ctx)
    assert suppressed(system, ZAPHOD) == [ZAPHOD]
    assert system.rows("SELECT address FROM suppressions") == [(None,)]
    [(recipient, shown)] = system.rows("SELECT recipient, data FROM state_changes WHERE type = 'suppression.added'")
    assert (recipient, shown["address"], shown["domain"]) == (None, None, None)
    assert system.rows("SELECT count(*) FROM soft_bounce_checks") == [(0,)]
    client = cast("ProviderApi", NothingThere())
    found = provider_sync.compare(system.ctx.engine, source, client, system.ctx.hasher, NOW, lambda _: None)
    assert (found.to_push, found.kept_here) == ([], 1)


class NothingThere:
    """A provider whose list is empty."""

    TAKES_TYPES = True

    def suppressions(self) -> Iterator[list[ListedSuppression]]:
        return iter(())


@pytest.mark.parametrize("odd", ['"zaphod b."@betelgeuse.example', "zaphod@[192.0.2.1]"])
def test_an_odd_address_is_erased_like_any_other(system: System, source: Source, odd: str) -> None:
    process_items(system, source, item("hard-bounced", odd, OTHERS[0], status="5.1.1", reason=f"no such user {odd}!"))
    system.store_receipt(source, f"no JSON, from {odd}, nor from {OTHERS[0]}".encode())
    drain(system)
    his = re.compile(r'"?zaphod( b\."@b|@\[)')
    assert places(system, his) >= {"receipts.content", "events.reason", "suppressions.address", "state_changes.data"}
    erase(system, odd)
    assert places(system, his) == set()
    assert suppressed(system, odd, OTHERS[0]) == sorted([odd, OTHERS[0]])
    assert set(system.recipient_statuses()) == {pseudonym(system, odd), OTHERS[0]}


SWEPT = (*store.TABLES, *store.DELIVERY_TABLES)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in the smallest pieces."""
    for name in ("RECEIPTS_LIMIT", "MESSAGES_LIMIT", "FILES_LIMIT", "ANSWERS_LIMIT"):
        monkeypatch.setattr(service, name, 1)
    for table in SWEPT:
        object.__setattr__(table, "limit", 1)


@pytest.fixture
def restored() -> Iterator[None]:
    limits = [(table, table.limit) for table in SWEPT]
    yield
    for table, limit in limits:
        object.__setattr__(table, "limit", limit)


@pytest.mark.usefixtures("restored", "hurried")
def test_it_takes_turns_with_other_work(crowded: System) -> None:
    erase(crowded, turn_seconds=0.0001)
    assert places(crowded) == set()
    assert len(crowded.notifier.tasks) > 20


@pytest.mark.usefixtures("restored", "hurried")
def test_a_worker_that_dies_is_followed_by_another(crowded: System, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, calls, original = ask(crowded), iter(range(10_000)), Progress.record

    def note(progress: Progress, *values: Any) -> None:
        original(progress, *values)
        if next(calls) % 3 == 1:
            raise ConnectionError("the worker dies here, before its transaction is committed")

    monkeypatch.setattr(Progress, "record", note)
    while not found(crowded, job_id).state.is_over:
        crowded.execute("UPDATE jobs SET available_at = now() - interval '1 s' WHERE id = %(id)s", id=job_id)
        working.run_due(crowded.ctx)
    assert found(crowded, job_id).state is JobState.DONE, found(crowded, job_id).error
    assert places(crowded) == set()
    crowded.assert_nothing_doubled()


def test_a_second_erasure_finds_nothing_to_do(crowded: System) -> None:
    erase(crowded)
    state = crowded.rows("SELECT count(*) FROM suppression_history")
    report = erase(crowded).report
    assert report == {"receipts": 0, "messages": 0, "entries": 0, "others": 0}
    assert crowded.rows("SELECT count(*) FROM suppression_history") == state


def test_what_came_after_is_erased_by_another_and_joins_what_was_there(system: System, source: Source) -> None:
    process_items(system, source, item("delivered", ZAPHOD))
    erase(system)
    process_items(system, source, item("open", ZAPHOD, second=60))
    assert set(system.recipient_statuses()) == {ZAPHOD, pseudonym(system)}
    erase(system)
    assert places(system) == set()
    assert system.rows("SELECT recipient, status, opens FROM recipient_states") == [(pseudonym(system), "delivered", 1)]


def test_a_soft_bounce_after_it_counts_with_those_before_when_both_are_erased(system: System, source: Source) -> None:
    for number in range(4):
        process_items(system, source, item("soft-bounced", ZAPHOD, request_id=f"r{number}", status="4.2.2"))
    erase(system)
    assert system.rows("SELECT DISTINCT recipient, count(*) FROM soft_bounces GROUP BY 1") == [(pseudonym(system), 4)]


def test_an_address_in_an_unusual_spelling_is_erased_too(system: System, source: Source) -> None:
    process_items(system, source, item("delivered", "zaphod (the second) @betelgeuse.example", OTHERS[0]))
    assert set(system.recipient_statuses()) == {ZAPHOD, OTHERS[0]}
    erase(system)
    assert set(system.recipient_statuses()) == {pseudonym(system), OTHERS[0]}
    assert stored_bodies(system) == {}
    assert system.rows("SELECT count(*) FROM events WHERE provider_object::text ILIKE '%%zaphod%%'") == [(0,)]


def test_an_international_address_is_erased_in_both_of_its_forms(system: System, source: Source) -> None:
    process_items(system, source, item("delivered", "zaphod@Bücher.example", OTHERS[0]))
    process_items(system, source, item("open", "Zaphod@xn--bcher-kva.example", OTHERS[0]))
    erase(system, "zaphod@bücher.example")
    assert places(system, re.compile(r"zaphod@(b.?.?cher|xn--bcher-kva)\.example")) == set()


def test_the_job_keeps_the_address_sealed_and_only_until_it_is_over(system: System) -> None:
    job_id = ask(system)
    assert places(system) == set()
    working.run_due(system.ctx)
    assert found(system, job_id).parameters == {"key": system.ctx.hasher.hash_address(ZAPHOD)}


def test_an_import_that_was_asked_for_before_is_waited_for(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "WAIT_SECONDS", 0.01)
    content = b"email\nzaphod@betelgeuse.example\narthur@earth.example\n"
    with system.ctx.engine.begin() as connection:
        suppression_jobs.create_csv_import(
            connection, content, Defaults(), skip_bad_lines=False, asked_by="ann", now=datetime.now(UTC)
        )
    system.execute("UPDATE jobs SET available_at = now() + interval '1 h'")
    erasure = ask(system)
    working.run_due(system.ctx, turn_seconds=0.2)
    assert not found(system, erasure).state.is_over
    system.execute("UPDATE jobs SET available_at = now() - interval '1 s'")
    working.run_due(system.ctx)
    assert system.rows("SELECT DISTINCT state FROM jobs") == [("done",)]
    assert suppressed(system, ZAPHOD, OTHERS[3]) == [OTHERS[3], ZAPHOD]
    assert places(system) == set()


def test_files_that_contain_the_address_are_deleted_and_a_new_export_has_the_pseudonym(crowded: System) -> None:
    erase(crowded)
    assert crowded.rows("SELECT count(*) FROM job_files") == [(0,)]
    with crowded.ctx.engine.begin() as connection:
        suppression_jobs.create_export(connection, SuppressionFilters(), asked_by="ann", now=datetime.now(UTC))
    working.run_due(crowded.ctx)
    with crowded.ctx.engine.begin() as connection:
        exported = b"".join(
            part
            for (job_id,) in crowded.rows("SELECT id FROM jobs WHERE kind = 'export_suppressions'")
            for part in job_files.parts(connection, job_id, job_files.OUTPUT)
        )
    assert pseudonym(crowded).encode() in exported


def test_what_is_said_of_others_before_it_is_processed_is_not_lost_with_the_body(
    system: System, source: Source
) -> None:
    first = process_items(system, source, item("delivered", ZAPHOD, OTHERS[0]))
    fresh = item("hard-bounced", ZAPHOD, OTHERS[1], request_id="r2", status="5.1.1", second=1)
    system.store_receipt(source, json.dumps([fresh]).encode())
    with system.ctx.engine.begin() as connection:
        assert receipts.queue_reprocessing(connection, [first]) == 1
    changes = len(system.change_types())
    erase(system)
    assert system.rows("SELECT recipient, status FROM recipient_states ORDER BY 2, 1") == sorted(
        [(pseudonym(system), "bounced"), (OTHERS[1], "bounced")]
    ) + sorted([(pseudonym(system), "delivered"), (OTHERS[0], "delivered")])
    assert suppressed(system, ZAPHOD, OTHERS[1]) == sorted([ZAPHOD, OTHERS[1]])
    assert system.change_types()[changes:] == ["message.bounced", "message.bounced", *["suppression.added"] * 2]
    assert system.rows("SELECT count(*) FROM pending_receipts") == [(0,)]
    assert places(system) == set()
    system.assert_nothing_doubled()


def test_what_cannot_be_processed_before_its_body_is_deleted_is_dead(
    system: System, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = source.provider.parse

    def faulty(body: bytes, credentials: object, /) -> list[Event]:
        return [
            msgspec.structs.replace(event, reason="\0") if event.request_id == "unstorable" else event
            for event in parse(body, credentials)
        ]

    replace_parser(monkeypatch, source, faulty)
    unreadable = system.store_receipt(source, b"no JSON, from zaphod@betelgeuse.example")
    unstorable = system.store_receipt(source, json.dumps([item("open", ZAPHOD, request_id="unstorable")]).encode())
    good = system.store_receipt(source, json.dumps([item("delivered", ZAPHOD)]).encode())
    erase(system)
    assert system.receipt_state(unreadable) == system.receipt_state(unstorable) == ("dead", "erased")
    assert system.receipt_state(good) == ("processed", None)
    assert places(system) == set()


def test_a_request_that_waits_for_its_verification_is_dead(system: System, source: Source) -> None:
    parked = system.quarantine(source, b"not verified: zaphod@betelgeuse.example", {}, key_id="k")
    erase(system)
    assert system.receipt_state(parked) == ("dead", "erased")
    system.make_receipts_due()
    verification.verify_due(system.ctx)
    assert system.receipt_state(parked) == ("dead", "erased")


def test_another_person_of_the_same_request_can_be_erased_after_it_is_gone(system: System, source: Source) -> None:
    process_items(
        system,
        source,
        item("hard-bounced", ZAPHOD, OTHERS[0], status="5.1.1", reason=f"neither {ZAPHOD} nor arthur@earth.example"),
    )
    erase(system)
    for other in (OTHERS[0], OTHERS[3]):
        erase(system, other)
        assert places(system, re.compile(re.escape(other))) == set()
    assert set(system.recipient_statuses()) == {pseudonym(system), pseudonym(system, OTHERS[0])}
    assert suppressed(system, ZAPHOD, OTHERS[0]) == sorted([ZAPHOD, OTHERS[0]])


CANNOT_HOLD_IT: Mapping[str, str] = {
    "periodic_tasks.*": "names of tasks, and what is wrong with the broker",
    "staged_suppressions.*": "what open imports have read; they are waited for",
    "sources.*": "what the operator has set up",
    "source_queues.*": "counters, times, and what SQS answered",
    "api_keys.*": "names of keys, and their hashes",
    "console_users.*": "accounts of the operator's people",
    "console_sessions.*": "hashes and ids",
    "alert_rules.*": "what the operator has set up",
    "alert_channels.*": "what the operator has set up, and what its own mail server said",
    "rules_in_force.*": "what the operator has set up",
    "peppers.*": "encrypted",
    "minute_counts.*": "domains, tenants and sources",
    "search_queue.*": "ids",
    "search_signatures.*": "hashes of three characters each, and cleared",
    "metric_totals.*": "names of metrics and their labels",
    "recipient_answers.*": "hashes of recipients, and words",
    "alembic_version.*": "not ours",
    "suppression_lifts.*": "keys only",
    "resend_records.*": "ids of the provider's",
    "reconciled_receipts.*": "ids of the provider's",
    "subscriptions.*": "what the operator has set up",
}
WORDS = {
    "audit_log.action", "audit_log.actor", "audit_log.tenant", "deliveries.status", "deliveries.type",
    "delivery_attempts.status", "idempotent_answers.request_hash",
    "alerts.acknowledged_by", "alerts.kind", "alerts.muted_by", "alerts.rule", "alerts.severity", "alerts.state",
    "alerts.tenant",
    "alert_notices.channel", "alert_notices.state", "alert_steps.severity", "alert_steps.step",
    "events.classification", "events.enhanced_code", "events.smtp_status", "events.type",
    "failed_deliveries.outcome", "failed_deliveries.reference", "failed_deliveries.state",
    "job_files.name", "jobs.asked_by", "jobs.kind", "jobs.state", "jobs.tenant",
    "parked_receipts.key_id", "parked_receipts.state", "receipts.remote_ip",
    "recipient_states.classification", "recipient_states.enhanced_code", "recipient_states.previous_status",
    "recipient_states.smtp_status", "recipient_states.status", "refusals.reason", "refusals.remote_ip",
    "soft_bounces.classification", "soft_bounces.tenant", "soft_bounce_checks.tenant",
    "state_changes.previous_status", "state_changes.status", "state_changes.type",
    "suppression_history.action", "suppression_history.classification", "suppression_history.origin",
    "suppression_history.reason", "suppression_history.tenant", "suppression_history.types",
    "suppressions.classification", "suppressions.domain", "suppressions.origin", "suppressions.reason",
    "suppressions.tenant", "suppressions.types",
}  # fmt: skip
"""Columns of tables that are gone through, which hold words, codes and names of the operator's."""

HANDLED = {
    "receipts.body", "receipts.content", "receipts.headers", "receipts.idempotency_key",
    "recipient_states.recipient", "job_files.content",
    "suppressions.address", "soft_bounces.recipient", "idempotent_answers.headers", "idempotent_answers.body",
    *(f"{table.name}.{name}" for table in (store.EVENTS, store.EVENT_OBJECTS, *SWEPT) for name in table.columns),
}  # fmt: skip


def test_no_column_is_forgotten(system: System) -> None:
    known = HANDLED | WORDS
    forgotten = [
        f"{table}.{column}"
        for table, column in columns(system)
        if f"{table}.{column}" not in known and f"{table}.*" not in CANNOT_HOLD_IT
    ]
    assert forgotten == [], "erase addresses from these, or say here why they hold none"

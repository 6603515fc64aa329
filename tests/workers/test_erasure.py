"""Erasing an address: it stands nowhere any more, it stays suppressed, and nobody else's data is touched."""

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

import pytest
from sqlalchemy import Connection

from shared import erasures as steps
from shared.auth import idempotency as idempotent_answers
from shared.db import bystanders, erasure_sweeps, erasures
from shared.encryption import SecretsError
from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.messages import announcements
from shared.messages.announcements import Send
from shared.providers.api.base import ListedSuppression, ProviderApi
from shared.receipts import queries as receipt_queries
from shared.receipts import refusals
from shared.receipts import store as receipts
from shared.receipts.refusals import Refusal
from shared.reprocessing import reprocess
from shared.sources.source import Source
from shared.suppression import import_staging
from shared.suppression import jobs as suppression_jobs
from shared.suppression import store as suppressions
from shared.suppression.csv_files import Defaults
from shared.suppression.provider_sync import Comparison
from shared.suppression.queries import Wanted
from shared.suppression.store import NewEntry
from shared.vocabulary import ALL_MAIL, JobState, SuppressionOrigin, SuppressionReason
from tests.support import http_sink as sinks
from tests.support import transitional as downstreams
from tests.support import transitional as workshops
from tests.support.transitional import Workshop
from workers import process_receipts as draining
from workers import suppressions as workers_suppressions
from workers.delivering import bodies
from workers.jobs import erase as erasing
from workers.jobs import import_suppressions
from workers.jobs import runner as working
from workers.jobs.progress import Progress

ZAPHOD = "zaphod@betelgeuse.example"
OTHERS = (
    "ford@betelgeuse.example",
    "bigzaphod@betelgeuse.example",
    "zaphod@betelgeuse.example.org",
    "arthur@earth.example",
)
NOW = datetime.now(UTC)
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_HIS = re.compile(r"(?<![\w.])zaphod@betelgeuse\.example(?!\.?\w)")


@pytest.fixture
def source(workshop: Workshop) -> Source:
    return workshop.add_source("mc", "mailchannels", {"customer_handles": ["acct"]})


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


def drain(workshop: Workshop) -> None:
    workshop.come_due()
    draining.drain(workshop.ctx)


def told(workshop: Workshop, source: Source, *items: Mapping[str, Any]) -> UUID:
    """A batch, processed."""
    receipt = workshop.receive(source, json.dumps(items).encode())
    drain(workshop)
    return receipt


def ask(workshop: Workshop, address: str = ZAPHOD) -> UUID:
    with workshop.ctx.engine.begin() as connection:
        return suppression_jobs.ask_erasure(
            connection, address, workshop.ctx.keys, workshop.ctx.vault, asked_by="ann", now=datetime.now(UTC)
        )


def found(workshop: Workshop, job_id: UUID) -> Job:
    with workshop.ctx.engine.begin() as connection:
        job = jobs.find(connection, job_id)
    assert job is not None
    return job


def erase(workshop: Workshop, address: str = ZAPHOD, *, slice_seconds: float = 60) -> Job:
    job_id = ask(workshop, address)
    while not found(workshop, job_id).state.is_over:
        working.work(workshop.ctx, slice_seconds=slice_seconds)
    job = found(workshop, job_id)
    assert job.state is JobState.DONE, job.error
    return job


def pseudonym(workshop: Workshop, address: str = ZAPHOD) -> str:
    return f"{workshop.ctx.keys.of_address(address)}@erased.invalid"


def columns(workshop: Workshop) -> list[tuple[str, str]]:
    """Every column of every table that can hold a text."""
    return [
        (table, column)
        for table, column in workshop.rows(
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


def opened(workshop: Workshop, value: Any) -> Any:
    """What is sealed in a value; the value itself where nothing is."""
    try:
        return b64decode(workshop.ctx.vault.open(value)["body"]) if isinstance(value, bytes) else value
    except (SecretsError, KeyError):
        return value


def places(workshop: Workshop, his: re.Pattern[str] = _HIS) -> set[str]:
    """Where the address stands."""
    return {
        f"{table}.{column}"
        for table, column in columns(workshop)
        for (value,) in workshop.rows(f"SELECT {column} FROM {table}")
        if value is not None and his.search(plain(opened(workshop, value)))
    }


def suppressed(workshop: Workshop, *addresses: str) -> list[str]:
    with workshop.ctx.engine.begin() as connection:
        keys = {workshop.ctx.keys.of_address(address): address for address in addresses}
        return sorted(keys[key] for key in suppressions.check(connection, list(keys), datetime.now(UTC)))


ESCAPED = (
    b'[{"customer_handle":"acct","event":"clicked","email":"shop@heart-of-gold.example","timestamp":%d,"request_id":'
    b'"r9","recipients":["z\\u0061phod\\u0040BETELGEUSE.example"],"url":"https:\\/\\/x.example\\/?u=zaphod%%40betelgeuse.example'
    b'&o=arthur%%40earth.example"}]'
) % int(NOW.timestamp())


def answer(workshop: Workshop, connection: Connection, body: bytes) -> None:
    """Keep an answer to a request as the API does."""
    key, now = uuid4(), datetime.now(UTC)
    assert idempotent_answers.begin(connection, key, b"hash", now) is None
    sealed = workshop.ctx.vault.seal({"body": body})
    idempotent_answers.finish(connection, key, now, 201, [("Location", "/v1/keys/1")], sealed)


@pytest.fixture
def crowded(workshop: Workshop, source: Source) -> Workshop:
    """A Tidings in which the address stands wherever it can."""
    told(
        workshop,
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
    told(workshop, source, item("soft-bounced", ZAPHOD, *OTHERS, request_id="r3", status="4.2.2"))
    workshop.receive(source, ESCAPED)
    workshop.receive(source, b"no JSON, from zaphod@betelgeuse.example, nor from arthur@earth.example")
    drain(workshop)
    workshop.park(source, b"not verified: zaphod@betelgeuse.example", {}, key_id="k")
    told(workshop, source, {**item("delivered", OTHERS[3], request_id="r4"), "email": ZAPHOD})
    workshop.receive(source, json.dumps([item("open", ZAPHOD, OTHERS[0], request_id="r5")]).encode())  # and waits
    with workshop.ctx.engine.begin() as connection:
        send = Send(source="mc", sender="a@x.example", recipients=[ZAPHOD, OTHERS[1]], request_id="r6")
        announcements.announce(connection, workshop.ctx.vault, send, NOW)
        keys = workshop.ctx.keys
        for address in (ZAPHOD, OTHERS[0]):
            entry = NewEntry(
                key=keys.of_address(address), address=address, domain=None, reason=SuppressionReason.MANUAL,
                types=ALL_MAIL,
                origin=SuppressionOrigin.PERSON, since=NOW, note=f"{address}, as zaphod@betelgeuse.example asked",
                actor="ann",
            )  # fmt: skip
            suppressions.add(connection, [entry], NOW)
        refusals.record(
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
            suppression_jobs.ask_import_of_csv(
                connection, content, Defaults(), skip_bad_lines=skip, asked_by="ann", now=datetime.now(UTC)
            )
        suppression_jobs.ask_export(connection, Wanted(), asked_by="ann", now=datetime.now(UTC))
        for name in (ZAPHOD, OTHERS[0]):
            answer(workshop, connection, f'{{"address": "{name}"}}'.encode())
    while workshop.rows("SELECT 1 FROM jobs WHERE state IN ('queued', 'running')"):
        working.work(workshop.ctx)
    with workshop.ctx.engine.begin() as connection:
        suppression_jobs.ask_import_of_csv(
            connection, b"email\nzaphod@betelgeuse.example\n", Defaults(), skip_bad_lines=False, asked_by="ann",
            now=datetime.now(UTC),
        )  # fmt: skip
    workshop.run("UPDATE jobs SET available_at = now() + interval '1 h' WHERE state = 'queued'")
    return workshop


def test_the_address_stands_nowhere_any_more(crowded: Workshop) -> None:
    before = places(crowded)
    assert {
        "receipts.body", "events.recipient", "events.reason", "events.data", "events.provider_object",
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


def test_it_stays_suppressed_and_the_list_no_longer_tells_whom_it_means(crowded: Workshop) -> None:
    assert suppressed(crowded, ZAPHOD) == [ZAPHOD]
    erase(crowded)
    assert suppressed(crowded, ZAPHOD, "ZAPHOD@betelgeuse.example") != []
    with crowded.ctx.engine.begin() as connection:
        entries = suppressions.find(connection, crowded.ctx.keys.of_address(ZAPHOD))
    assert {(entry.address, entry.domain) for entry in entries} == {(None, None)}
    assert {entry.reason for entry in entries} == {"hard_bounce", "manual"}
    erased = crowded.rows("SELECT reason, actor FROM suppression_history WHERE action = 'erased' ORDER BY 1")
    assert {actor for _, actor in erased} == {"ann"}
    assert len(erased) == len(entries)


OF_OTHERS = (
    "SELECT message_id, recipient, status, status_at, opens, clicks, version FROM recipient_states WHERE recipient",
    "SELECT recipient, tenant, message_id, first_at, last_at FROM soft_bounces WHERE recipient",
    "SELECT key, tenant, reason, origin, address, domain, until, evidence_event_id FROM suppressions WHERE address",
    "SELECT id, type, recipient, message_id, occurred_at, classification FROM events WHERE recipient",
)


def test_nobody_elses_data_is_touched(crowded: Workshop) -> None:
    other = re.compile("|".join(map(re.escape, OTHERS)))

    def of_others() -> list[list[Any]]:
        his = f"'{{{ZAPHOD},{pseudonym(crowded)}}}'"
        return [crowded.rows(f"{query} <> ALL({his}) ORDER BY 1, 2") for query in OF_OTHERS]

    bodies = {id_: bytes(body) for id_, body in crowded.rows("SELECT id, body FROM receipts")}
    before, names = of_others(), {id_: other.findall(plain(body)) for id_, body in bodies.items()}
    erase(crowded)
    assert of_others() == before
    for id_, body in crowded.rows("SELECT id, body FROM receipts"):
        assert other.findall(plain(bytes(body))) == names[id_]
        if bytes(body) != bodies[id_]:
            spelt = re.compile(rb"(?i)z(a|\\u0061)phod(@|%40|\\u0040)betelgeuse\.example(?!\.org)")
            untouched = spelt.sub(b"|", re.sub(rb"(?i)bigzaphod@", b"@@", bodies[id_]))
            assert bytes(body).replace(b"bigzaphod@", b"@@").replace(pseudonym(crowded).encode(), b"|") == untouched


def test_a_receipt_that_was_changed_says_so(crowded: Workshop, source: Source) -> None:
    other = told(crowded, source, item("delivered", OTHERS[3], request_id="r7"))
    erase(crowded)
    with crowded.ctx.engine.begin() as connection:
        facts = receipt_queries.listed(connection).items
    assert [fact.id for fact in facts if fact.erased_at is None] == [other]
    assert crowded.rows(
        "SELECT count(*) FROM parked_receipts AS p JOIN receipts ON id = receipt_id WHERE bytes <> length(body)"
    ) == [(0,)]


def test_processing_a_changed_receipt_again_changes_and_tells_nothing(crowded: Workshop) -> None:
    drain(crowded)
    erase(crowded)
    queries = (
        "SELECT id, key, recipient, reason, data::text, provider_object::text FROM events ORDER BY id",
        "SELECT message_id, recipient, status, status_key, opens, clicks FROM recipient_states ORDER BY 1, 2",
        "SELECT key, tenant, reason, origin, since, until, evidence_key FROM suppressions ORDER BY 1, 2, 3, 4",
        "SELECT recipient, tenant, message_id, first_key, last_key FROM soft_bounces ORDER BY 1, 2, 3",
        "SELECT count(*) FROM state_changes",
    )
    before = [crowded.rows(query) for query in queries]
    with crowded.ctx.engine.begin() as connection:
        reprocess.queue(connection, [row[0] for row in crowded.rows("SELECT receipt_id FROM erased_receipts")])
    drain(crowded)
    assert [crowded.rows(query) for query in queries] == before
    assert places(crowded) == set()
    crowded.nothing_is_doubled()


def test_what_the_provider_sends_again_is_a_repetition_still(workshop: Workshop, source: Source) -> None:
    happened = item("hard-bounced", ZAPHOD, OTHERS[0], status="5.1.1")
    told(workshop, source, happened)
    erase(workshop)
    events = workshop.rows("SELECT count(*) FROM events")
    again = told(workshop, source, happened, item("delivered", OTHERS[1], request_id="r8"))
    assert workshop.rows("SELECT count(*) FROM events WHERE receipt_id = %(id)s", id=again) == [(1,)]
    assert workshop.rows("SELECT count(*) FROM events") == [(events[0][0] + 1,)]


@pytest.mark.parametrize("late", [False, True])
def test_a_receipt_that_a_worker_has_in_its_hands_is_read_again(
    workshop: Workshop, source: Source, *, late: bool
) -> None:
    workshop.receive(source, json.dumps([item("delivered", ZAPHOD, OTHERS[0])]).encode())
    token = uuid4()
    with workshop.ctx.engine.begin() as connection:
        claimed = receipts.claim(connection, limit=10, most_bytes=1 << 20, token=token, lease_seconds=60)
    if late:  # and nobody else has taken it up yet
        workshop.run("UPDATE pending_receipts SET lease_until = now() - interval '1 s'")
    erase(workshop)
    done = draining.Drained()
    draining._work(workshop.ctx, claimed, token, done)
    assert done.receipts == 0
    drain(workshop)
    assert workshop.statuses() == {pseudonym(workshop): "delivered", OTHERS[0]: "delivered"}
    assert places(workshop) == set()
    assert claimed[0].attempts == 1


def erase_while(workshop: Workshop, others: Callable[[threading.Event, threading.Event], None]) -> None:
    """Erase while others have the address in their hands; they say when they do, and are told when to go on."""
    reached, go = threading.Event(), threading.Event()
    jobs_of_erasures = "SELECT state FROM jobs WHERE kind = 'erase'"
    other = threading.Thread(target=others, args=(reached, go))
    other.start()
    assert reached.wait(20)
    erasure = threading.Thread(target=erase, args=(workshop,))
    erasure.start()
    erasure.join(1)  # it either waits for them by now, or has made sure that they write nothing
    go.set()
    other.join()
    erasure.join()
    assert workshop.rows(jobs_of_erasures) == [("done",)]


@pytest.mark.parametrize(
    ("module", "name"),
    [(import_suppressions, "_sort"), (import_staging, "stage"), (suppressions, "add")],
    ids=["has read", "keeps what it has read", "writes"],
)
def test_an_import_that_has_it_in_its_hands_does_not_bring_it_back(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    with workshop.ctx.engine.begin() as connection:
        content = f"email,note\n{ZAPHOD},x\narthur@earth.example,as {ZAPHOD} said\n".encode()
        suppression_jobs.ask_import_of_csv(
            connection, content, Defaults(), skip_bad_lines=False, asked_by="ann", now=datetime.now(UTC)
        )

    def import_it(reached: threading.Event, go: threading.Event) -> None:
        original = getattr(module, name)

        def slow(*values: Any, **more: Any) -> Any:
            monkeypatch.undo()
            result = original(*values, **more)
            reached.set()
            assert go.wait(20)
            return result

        monkeypatch.setattr(module, name, slow)
        working.work(workshop.another_rim())

    erase_while(workshop, import_it)
    working.work(workshop.ctx)
    assert workshop.rows("SELECT state FROM jobs") == [("done",), ("done",)]
    assert suppressed(workshop, ZAPHOD, OTHERS[3]) == [OTHERS[3], ZAPHOD]
    assert places(workshop) == set()


def test_an_export_that_has_it_in_its_hands_does_not_keep_it(
    crowded: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with crowded.ctx.engine.begin() as connection:
        suppression_jobs.ask_export(connection, Wanted(), asked_by="ann", now=datetime.now(UTC))

    def export(reached: threading.Event, go: threading.Event) -> None:
        original = job_files.write

        def slow(*values: Any) -> None:
            monkeypatch.undo()
            reached.set()
            assert go.wait(20)
            original(*values)

        monkeypatch.setattr(job_files, "write", slow)
        working.work(crowded.another_rim())

    erase_while(crowded, export)
    working.work(crowded.ctx)
    assert places(crowded) == set()


def test_whoever_is_just_putting_it_on_the_list_by_what_others_say_is_waited_for(workshop: Workshop) -> None:
    entry = NewEntry(
        key=workshop.ctx.keys.of_address(ZAPHOD), address=ZAPHOD, domain=None, reason=SuppressionReason.MANUAL,
        types=ALL_MAIL,
        origin=SuppressionOrigin.PROVIDER, since=NOW,
    )  # fmt: skip

    def add(reached: threading.Event, go: threading.Event) -> None:
        with workshop.another_rim().engine.begin() as connection:
            suppressions.add(connection, [entry], NOW)
            reached.set()
            assert go.wait(20)

    erase_while(workshop, add)
    assert suppressed(workshop, ZAPHOD) == [ZAPHOD]
    assert places(workshop) == set()


def test_a_delivery_under_way_is_waited_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loopback = (ip_network("127.0.0.0/8"),)
    monkeypatch.setattr(steps, "_REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr(erasing, "_PATIENCE_SECONDS", 0.05)
    with (
        sinks.http_sink() as sink,
        workshops.opened(database_url, egress_allow=loopback) as workshop,
        downstreams.opened(workshop) as downstream,
    ):
        downstream.subscribe(sink.url, timeout_s=20)
        downstream.change(recipient=ZAPHOD, status="bounced")

        def deliver(reached: threading.Event, go: threading.Event) -> None:
            def echo(handler: BaseHTTPRequestHandler, _closing: threading.Event) -> None:
                reached.set()
                assert go.wait(20)
                sinks.answer(200, ZAPHOD.encode())(handler, _closing)

            sink.then(echo)
            downstream.deliver()

        erase_while(workshop, deliver)
        assert downstream.statuses() == [("delivered", 1)]
        [(_, _, _, asked, answered)] = downstream.attempts()
        assert pseudonym(workshop) in str(asked)
        assert pseudonym(workshop) in str(answered)
        assert places(workshop) == set()


def test_an_erasure_waits_for_what_deliverers_remember(workshop: Workshop) -> None:
    assert steps._REMEMBERED_SECONDS > bodies._LIFE_SECONDS
    with workshop.ctx.engine.begin() as connection:
        assert bystanders.deliverers_forget_at(connection, 60) is None
        downstreams.subscribe(connection, workshop.ctx.vault, "http://127.0.0.1:1/")
        moment = bystanders.deliverers_forget_at(connection, 60)
        assert moment is not None
        assert bystanders.calls_since_before(connection, moment.isoformat())
        assert not bystanders.calls_since_before(connection, NOW.isoformat())


@pytest.mark.parametrize("kind", ["hard-bounced", "soft-bounced"])
def test_what_is_processed_afterwards_suppresses_whom_nobody_can_name(
    workshop: Workshop, source: Source, kind: str
) -> None:
    for number in range(5):
        event = item(kind, ZAPHOD, request_id=f"r{number}", status="5.1.1" if kind == "hard-bounced" else "4.2.2")
        workshop.receive(source, json.dumps([event]).encode())
    erase(workshop)
    drain(workshop)
    workers_suppressions.judge_due(workshop.ctx)
    assert suppressed(workshop, ZAPHOD) == [ZAPHOD]
    assert workshop.rows("SELECT address FROM suppressions") == [(None,)]
    [(recipient, shown)] = workshop.rows("SELECT recipient, data FROM state_changes WHERE type = 'suppression.added'")
    assert (recipient, shown["address"], shown["domain"]) == (None, None, None)
    assert workshop.rows("SELECT count(*) FROM soft_bounce_checks") == [(0,)]
    found = Comparison(
        engine=workshop.ctx.engine,
        source=source,
        client=cast("ProviderApi", NothingThere()),
        keys=workshop.ctx.keys,
        now=NOW,
    ).make()
    assert (found.to_push, found.kept_here) == ([], 1)


class NothingThere:
    """A provider whose list is empty."""

    TAKES_TYPES = True

    def suppressions(self) -> Iterator[list[ListedSuppression]]:
        return iter(())


@pytest.mark.parametrize("odd", ['"zaphod b."@betelgeuse.example', "zaphod@[192.0.2.1]"])
def test_an_odd_address_is_erased_like_any_other(workshop: Workshop, source: Source, odd: str) -> None:
    told(workshop, source, item("hard-bounced", odd, OTHERS[0], status="5.1.1", reason=f"no such user {odd}!"))
    workshop.receive(source, f"no JSON, from {odd}, nor from {OTHERS[0]}".encode())
    drain(workshop)
    his = re.compile(r'"?zaphod( b\."@b|@\[)')
    assert places(workshop, his) >= {"receipts.body", "events.reason", "suppressions.address", "state_changes.data"}
    erase(workshop, odd)
    assert places(workshop, his) == set()
    assert suppressed(workshop, odd, OTHERS[0]) == sorted([odd, OTHERS[0]])
    assert set(workshop.statuses()) == {pseudonym(workshop, odd), OTHERS[0]}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in the smallest pieces."""
    from shared import erasures as work

    monkeypatch.setattr(work, "RECEIPTS_AT_ONCE", 1)
    monkeypatch.setattr(work, "_MESSAGES_AT_ONCE", 1)
    for sweep in erasure_sweeps.SWEEPS:
        object.__setattr__(sweep, "limit", 1)


@pytest.fixture
def restored() -> Iterator[None]:
    limits = [(sweep, sweep.limit) for sweep in erasure_sweeps.SWEEPS]
    yield
    for sweep, limit in limits:
        object.__setattr__(sweep, "limit", limit)


@pytest.mark.usefixtures("restored", "hurried")
def test_it_takes_turns_with_other_work(crowded: Workshop) -> None:
    erase(crowded, slice_seconds=0.0001)
    assert places(crowded) == set()
    assert len(crowded.bell.rings) > 20


@pytest.mark.usefixtures("restored", "hurried")
def test_a_worker_that_dies_is_followed_by_another(crowded: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, calls, original = ask(crowded), iter(range(10_000)), Progress.note

    def note(progress: Progress, *values: Any) -> None:
        original(progress, *values)
        if next(calls) % 3 == 1:
            raise ConnectionError("the worker dies here, before its transaction is committed")

    monkeypatch.setattr(Progress, "note", note)
    while not found(crowded, job_id).state.is_over:
        crowded.run("UPDATE jobs SET available_at = now() - interval '1 s' WHERE id = %(id)s", id=job_id)
        working.work(crowded.ctx)
    assert found(crowded, job_id).state is JobState.DONE, found(crowded, job_id).error
    assert places(crowded) == set()
    crowded.nothing_is_doubled()


def test_a_second_erasure_finds_nothing_to_do(crowded: Workshop) -> None:
    erase(crowded)
    state = crowded.rows("SELECT count(*) FROM suppression_history")
    report = erase(crowded).report
    assert report == {"receipts": 0, "messages": 0, "entries": 0, "others": 0}
    assert crowded.rows("SELECT count(*) FROM suppression_history") == state


def test_what_came_after_is_erased_by_another_and_joins_what_was_there(workshop: Workshop, source: Source) -> None:
    told(workshop, source, item("delivered", ZAPHOD))
    erase(workshop)
    told(workshop, source, item("open", ZAPHOD, second=60))
    assert set(workshop.statuses()) == {ZAPHOD, pseudonym(workshop)}
    erase(workshop)
    assert places(workshop) == set()
    assert workshop.rows("SELECT recipient, status, opens FROM recipient_states") == [
        (pseudonym(workshop), "delivered", 1)
    ]


def test_a_soft_bounce_after_it_counts_with_those_before_when_both_are_erased(
    workshop: Workshop, source: Source
) -> None:
    for number in range(4):
        told(workshop, source, item("soft-bounced", ZAPHOD, request_id=f"r{number}", status="4.2.2"))
    erase(workshop)
    assert workshop.rows("SELECT DISTINCT recipient, count(*) FROM soft_bounces GROUP BY 1") == [
        (pseudonym(workshop), 4)
    ]


def test_an_address_written_as_nobody_would_is_erased_too(workshop: Workshop, source: Source) -> None:
    told(workshop, source, item("delivered", "zaphod (the second) @betelgeuse.example", OTHERS[0]))
    assert set(workshop.statuses()) == {ZAPHOD, OTHERS[0]}
    erase(workshop)
    assert set(workshop.statuses()) == {pseudonym(workshop), OTHERS[0]}
    assert b"zaphod" not in bytes(workshop.rows("SELECT body FROM receipts")[0][0])


def test_an_international_address_is_erased_in_both_of_its_forms(workshop: Workshop, source: Source) -> None:
    told(workshop, source, item("delivered", "zaphod@Bücher.example", OTHERS[0]))
    told(workshop, source, item("open", "Zaphod@xn--bcher-kva.example", OTHERS[0]))
    erase(workshop, "zaphod@bücher.example")
    assert places(workshop, re.compile(r"zaphod@(b.?.?cher|xn--bcher-kva)\.example")) == set()


def test_the_job_keeps_the_address_sealed_and_only_until_it_is_over(workshop: Workshop) -> None:
    job_id = ask(workshop)
    assert places(workshop) == set()
    working.work(workshop.ctx)
    assert found(workshop, job_id).parameters == {"key": workshop.ctx.keys.of_address(ZAPHOD)}


def test_files_of_jobs_are_erased_without_harm_to_an_import_that_waits(crowded: Workshop) -> None:
    erase(crowded)
    crowded.run("UPDATE jobs SET available_at = now() - interval '1 s'")
    working.work(crowded.ctx)
    assert crowded.rows("SELECT count(*) FROM jobs WHERE state <> 'done'") == [(1,)], "the one whose lines were bad"
    assert places(crowded) == set()
    assert suppressed(crowded, ZAPHOD) == [ZAPHOD]
    with crowded.ctx.engine.begin() as connection:
        exported = b"".join(
            part
            for (job_id,) in crowded.rows("SELECT id FROM jobs WHERE kind = 'export_suppressions'")
            for part in job_files.parts(connection, job_id, job_files.OUTPUT)
        )
    assert pseudonym(crowded).encode() in exported


CANNOT_HOLD_IT: Mapping[str, str] = {
    "sources.*": "what the operator has set up",
    "api_keys.*": "names of keys, and their hashes",
    "alert_rules.*": "what the operator has set up",
    "alert_channels.*": "what the operator has set up, and what its own mail server said",
    "rules_in_force.*": "what the operator has set up",
    "peppers.*": "encrypted",
    "minute_counts.*": "domains, tenants and sources",
    "alembic_version.*": "not ours",
    "suppression_lifts.*": "keys only",
    "resend_records.*": "ids of the provider's",
    "reconciled_receipts.*": "ids of the provider's",
    "subscriptions.*": "what the operator has set up",
}
WORDS = {
    "audit_log.action", "audit_log.actor", "audit_log.tenant", "deliveries.status", "deliveries.type",
    "delivery_attempts.status", "idempotent_answers.request_hash",
    "alerts.acknowledged_by", "alerts.kind", "alerts.rule", "alerts.severity", "alerts.state", "alerts.tenant",
    "alert_notices.channel", "alert_notices.state", "alert_steps.severity", "alert_steps.step",
    "events.classification", "events.enhanced_code", "events.smtp_status", "events.type",
    "failed_deliveries.outcome", "failed_deliveries.reference", "failed_deliveries.state",
    "job_files.name", "jobs.asked_by", "jobs.kind", "jobs.state", "jobs.tenant",
    "parked_receipts.key_id", "parked_receipts.state", "receipts.remote_ip",
    "recipient_states.classification", "recipient_states.enhanced_code", "recipient_states.previous_status",
    "recipient_states.smtp_status", "recipient_states.status", "refusals.reason", "refusals.remote_ip",
    "soft_bounces.classification", "soft_bounces.tenant", "soft_bounce_checks.tenant",
    "staged_suppressions.classification", "staged_suppressions.domain", "staged_suppressions.reason",
    "staged_suppressions.tenant", "staged_suppressions.types",
    "state_changes.previous_status", "state_changes.status", "state_changes.type",
    "suppression_history.action", "suppression_history.classification", "suppression_history.origin",
    "suppression_history.reason", "suppression_history.tenant", "suppression_history.types",
    "suppressions.classification", "suppressions.domain", "suppressions.origin", "suppressions.reason",
    "suppressions.tenant", "suppressions.types",
}  # fmt: skip
"""Columns of tables that are gone through, which hold words, codes and names of the operator's."""

HANDLED = {
    "receipts.body", "receipts.headers", "receipts.idempotency_key",
    "events.recipient", "events.reason", "events.data", "events.provider_object",
    *(f"messages.{name}" for name in erasures._MESSAGE_TEXTS),
    *(f"recipient_states.{name}" for name in (*erasures._STATE_TEXTS, "recipient")),
    "suppressions.address", "soft_bounces.recipient", "idempotent_answers.headers", "idempotent_answers.body",
    *(f"{sweep.table}.{name}" for sweep in erasure_sweeps.SWEEPS for name in sweep.texts),
}  # fmt: skip


def test_no_column_is_forgotten(workshop: Workshop) -> None:
    known = HANDLED | WORDS
    forgotten = [
        f"{table}.{column}"
        for table, column in columns(workshop)
        if f"{table}.{column}" not in known and f"{table}.*" not in CANNOT_HOLD_IT
    ]
    assert forgotten == [], "erase addresses from these, or say here why they hold none"

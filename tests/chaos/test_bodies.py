"""Any bytes that a provider signs are stored unchanged, answered with 200, and delay no other receipt."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from shared.postgres import stored_requests
from simulator.providers.ark.webhooks import Ark
from simulator.providers.base import Dialect
from simulator.providers.cloudmailin.webhooks import CloudMailin
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.providers.postal.webhooks import Postal
from tests.support import traffic
from tests.support.cluster import Cluster, SimulatedSource, eventually
from tests.support.traffic import Acknowledged, Provider

ODD = {
    "NUL": b'[{"event":"delivered","customer_handle":"acmeco","request_id":"a\\u0000b","recipients":["\\u0000"]}]',
    "raw NUL": b'[{"event":"delivered\0"}]',
    "half a pair": b'[{"event":"open","customer_handle":"acmeco","request_id":"\\ud800","recipients":["\\udfff@x"]}]',
    "NaN": b'[{"event":"delivered","customer_handle":"acmeco","timestamp":NaN}]',
    "infinite": b'[{"event":"delivered","customer_handle":"acmeco","timestamp":1e999,"request_id":-Infinity}]',
    "huge integer": b'[{"event":"delivered","customer_handle":"acmeco","timestamp":' + b"9" * 5000 + b"}]",
    "keys twice": b'[{"event":"open","event":"click","customer_handle":"acmeco","request_id":"a","request_id":"b"}]',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep inside": b'[{"event":"delivered","customer_handle":"acmeco","extra":' + b"[" * 5000 + b"]" * 5000 + b"}]",
    "an item of another kind": b'[null, 1, "x", [], {}, true]',
    "an object": b"{}",
    "a number": b"0",
    "no JSON": b"event=delivered&recipient=a%40x",
    "not UTF-8": b'[{"event":"\xff\xfe\x80"}]',
    "a byte order mark": b"\xef\xbb\xbf[]",
    "UTF-16": "[]".encode("utf-16"),
    "white space": b" \n\t",
    "one byte": b"\0",
    "all bytes": bytes(range(256)),
    "many megabytes": b"[" + b" " * (4 * 1024 * 1024) + b"]",
}
DIALECTS: Sequence[type[Dialect]] = (MailChannels, CloudMailin, Ark, Postal)


@pytest.mark.parametrize("make", DIALECTS, ids=lambda dialect: dialect.NAME)
def test_odd_bytes_are_kept_exactly_and_end_processed_or_dead(
    cluster: Cluster, source: SimulatedSource, make: type[Dialect]
) -> None:
    dialect = make()
    slug = f"odd-{dialect.NAME}"
    source_id = cluster.add_source(slug, dialect)
    happenings = traffic.happenings(20, seed=31)
    with ThreadPoolExecutor(1) as pool:
        neighbours = pool.submit(source.provider.send, source.bodies(happenings))
        done = Provider(dialect, cluster.urls(slug)).send(ODD.values())

    # 503 if the commit takes longer than a provider waits, as on a busy machine; the body is sent again until 200.
    assert set(done.statuses) <= {200, 503}
    source.assert_every_acknowledged_event_stored_once(happenings, neighbours.result())
    stored = cluster.rows("SELECT id, body, content FROM receipts WHERE source_id = %(id)s", id=source_id)
    assert {stored_requests.body_of(*body): {receipt} for receipt, *body in stored} == done.receipts
    assert set(source.count_by_state(done.ids)) <= {"processed", "dead"}
    reasons = cluster.rows("SELECT reason, detail FROM parked_receipts WHERE source_id = %(id)s", id=source_id)
    assert {reason for reason, _ in reasons} == {"unreadable"}
    assert all(detail for _, detail in reasons)


@pytest.mark.parametrize("make", DIALECTS, ids=lambda dialect: dialect.NAME)
def test_an_empty_body_is_refused_and_is_no_fault_of_ours(cluster: Cluster, make: type[Dialect]) -> None:
    dialect = make()
    slug = f"empty-{dialect.NAME}"
    cluster.add_source(slug, dialect)
    assert Provider(dialect, cluster.urls(slug)).post(b"").status == 401
    assert eventually(
        lambda: cluster.rows("SELECT reason FROM refusals WHERE source = %(s)s", s=slug) == [("empty_body",)]
    )


def test_of_two_hundred_bodies_the_one_that_cannot_be_read_is_dead_with_a_reason(source: SimulatedSource) -> None:
    happenings = traffic.happenings(199, seed=32)
    events = sorted(happenings, key=lambda happening: happening.at)[:199]
    bodies = [source.dialect.body([event]) for event in events]
    bodies.insert(100, b"authentic, and no JSON")
    done = source.provider.send(bodies)
    assert len(done.ids) == 200
    source.assert_every_acknowledged_event_stored_once(events, done, dead=1)
    [(reason, detail)] = source.cluster.rows(
        "SELECT reason, detail FROM parked_receipts WHERE source_id = %(id)s", id=source.source_id
    )
    assert reason == "unreadable"
    assert "JSON" in detail


def test_the_same_request_fifty_times_at_once_is_one_receipt_and_one_effect(source: SimulatedSource) -> None:
    happenings = traffic.happenings(1, seed=33)
    body = source.dialect.body(happenings)
    headers = source.dialect.sign(body, datetime.now(UTC))
    done = Acknowledged()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: source.provider.post(body, headers), range(50)))
    assert {answer.status for answer in answers} == {200}
    done.receipts[body] = {answer.receipt for answer in answers if answer.receipt}
    assert len(done.ids) == 1
    source.assert_every_acknowledged_event_stored_once(happenings, done)

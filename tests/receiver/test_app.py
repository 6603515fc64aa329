"""What the receiver answers, and what it stores."""

import base64
import gc
import json
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from cli.embedded.server import eventually
from shared.broker import PROCESS_RECEIPTS, VERIFY
from shared.postgres import stored_requests
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import StatusCodes, WebhookRequest
from shared.receipts.store import Receipt
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.support import signed_requests

BASIC = {"Authorization": "Basic " + base64.b64encode(b"user:secret").decode()}
CLOUDMAILIN = {"username": "user", "password": "secret"}
BODY = json.dumps({"events": [{"kind": "delivery", "recipient": "ann@example.net", "message_id": "m-1"}]}).encode()


@pytest.fixture
def mailchannels(receiver):
    dialect = MailChannels(seed=1)
    receiver.add_source("mc", "mailchannels", dialect.credentials())
    return dialect


def signed(dialect, body, at=None):
    return {"data": body, "headers": dialect.sign(body, at or datetime.now(UTC))}


def test_a_genuine_request_is_stored_byte_for_byte_queued_and_announced(receiver, mailchannels):
    body = b'[ {"event":"processed", "customer_handle":"acmeco","timestamp":1767225600} ]\n'
    answer = receiver.client.post("/webhooks/mc", **signed(mailchannels, body))
    assert answer.status_code == 200
    [(receipt, content, remote_ip)] = receiver.rows("SELECT id, content, remote_ip FROM receipts")
    assert answer.json == {"receipt": str(receipt)}
    assert (stored_requests.unpack(content)[1], remote_ip) == (body, "127.0.0.1")
    assert receiver.rows("SELECT receipt_id FROM pending_receipts") == [(receipt,)]
    assert receiver.wakeups == [PROCESS_RECEIPTS]


def test_an_answered_request_is_freed_without_the_garbage_collector(receiver, mailchannels):
    body = b'["is it gone?"]'

    def is_there():
        # Not isinstance, which asks lazy objects of other libraries for their class.
        return any(type(one) in (WebhookRequest, Receipt) and one.body == body for one in gc.get_objects())

    receiver.client.post("/webhooks/mc", **signed(mailchannels, b"[]"))
    gc.disable()
    try:
        receiver.client.post("/webhooks/mc", **signed(mailchannels, body))
        assert eventually(lambda: not is_there(), timeout_seconds=10)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/mc/",
        "http://localhost//webhooks/mc",
        "/webhooks//mc//",
        "/webhooks/mc%20",
        "/webhooks/mc%0A",
        "/webhooks/mc",
    ],
)
def test_a_url_is_understood_as_people_paste_it(receiver, mailchannels, path):
    answer = receiver.client.post(path, **signed(mailchannels, b"[]"))
    assert answer.status_code == 200
    assert receiver.client.get(path).status_code == 200
    forged = receiver.client.post(path, data=b"[1]", headers=mailchannels.sign(b"[]", datetime.now(UTC)))
    assert forged.status_code == 401
    assert [row[0] for row in receiver.refused()] == ["mc"]


@pytest.mark.parametrize("coding", ["identity", "Identity, identity", "", "UTF-8", "none", "7bit", "binary"])
def test_a_coding_that_changes_nothing_is_none(receiver, mailchannels, coding):
    request = signed(mailchannels, b"[]")
    request["headers"] = {**request["headers"], "Content-Encoding": coding}
    assert receiver.client.post("/webhooks/mc", **request).status_code == 200


def test_a_repetition_is_answered_200_with_the_first_receipt(receiver, mailchannels):
    body = b'[{"event":"processed"}]'
    first, second = (receiver.client.post("/webhooks/mc", **signed(mailchannels, body)) for _ in range(2))
    assert second.status_code == 200
    assert first.json == second.json
    assert len(receiver.rows("SELECT 1 FROM receipts")) == 1


class TestAnIdempotencyKey:
    """MailWebhook's header, which no signature covers."""

    @pytest.fixture
    def post(self, receiver):
        receiver.add_source("mw", "mailwebhook", signed_requests.GIVEN["mailwebhook"])

        def post(body, key="k-1"):
            request = signed_requests.sign_mailwebhook(body, signed_at=int(time.time()))
            headers = {**request.headers, "X-Idempotency-Key": key}
            answer = receiver.client.post("/webhooks/mw", data=body, headers=headers)
            assert answer.status_code == 200
            return answer.json["receipt"]

        return post

    def test_with_the_same_body_is_a_repetition(self, receiver, post):
        assert post(b'{"a": 1}') == post(b'{"a": 1}')
        assert receiver.rows("SELECT count(*) FROM pending_receipts") == [(1,)]

    def test_with_another_body_is_a_correction_and_stored(self, receiver, post):
        assert post(b'{"a": 1}') != post(b'{"a": 2}')
        assert receiver.rows("SELECT count(*) FROM pending_receipts") == [(2,)]

    def test_distinguishes_two_mails_with_the_same_body(self, receiver, post):
        assert post(b'{"a": 1}', "k-1") != post(b'{"a": 1}', "k-2")
        assert receiver.rows("SELECT count(*) FROM pending_receipts") == [(2,)]

    @pytest.mark.parametrize("state", ["dead", "rejected"])
    def test_of_a_receipt_that_stands_for_nothing_is_stored_once_more(self, receiver, post, state):
        first = post(b"unreadable")
        with receiver.database.begin() as connection:
            connection.exec_driver_sql("DELETE FROM pending_receipts")
            connection.exec_driver_sql(
                "INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, bytes, available_at,"
                " parked_at) SELECT id, source_id, %(state)s, '', '', 1, now(), now() FROM receipts",
                {"state": state},
            )
        second = post(b"unreadable")
        assert second != first
        assert post(b"unreadable") == second, "an exact repetition of one that is pending"
        assert [str(row[0]) for row in receiver.rows("SELECT receipt_id FROM pending_receipts")] == [second]


def test_a_copy_of_a_genuine_body_with_a_forged_signature_does_not_replace_the_genuine_request(receiver, mailchannels):
    body = b'[{"event":"processed"}]'
    mailchannels.rotate()
    forged = signed(MailChannels(seed=666), body)
    assert receiver.client.post("/webhooks/mc", **forged).status_code == 200
    assert receiver.client.post("/webhooks/mc", **signed(mailchannels, body)).status_code == 200
    assert receiver.rows("SELECT count(*) FROM parked_receipts WHERE state = 'unverified'") == [(2,)]


def test_a_source_created_a_moment_ago_is_known(receiver):
    receiver.client.get("/webhooks/none")
    receiver.add_source("late", "cloudmailin", CLOUDMAILIN)
    assert receiver.client.post("/webhooks/late", data=BODY, headers=BASIC).status_code == 200


def test_an_unknown_source_is_404_and_listed(receiver):
    assert receiver.client.post("/webhooks/nobody", data=b"{}").status_code == 404
    assert receiver.refused() == [("nobody", 404, "unknown_source", 1)]


@pytest.mark.parametrize("method", ["get", "head"])
def test_a_set_up_probe_is_answered_200_for_a_source_that_exists(receiver, mailchannels, method):
    assert getattr(receiver.client, method)("/webhooks/mc").status_code == 200
    assert getattr(receiver.client, method)("/webhooks/nobody").status_code == 404


def test_a_forged_request_is_refused_at_once_and_listed(receiver, mailchannels):
    headers = mailchannels.sign(b"[]", datetime.now(UTC))
    answer = receiver.client.post("/webhooks/mc", data=b"[1]", headers=headers)
    assert answer.status_code == 401
    assert answer.json["reason"] == "digest_mismatch"
    assert receiver.refused() == [("mc", 401, "digest_mismatch", 1)]
    assert receiver.rows("SELECT 1 FROM receipts") == []


def test_a_stale_signature_is_refused(receiver, mailchannels):
    old = datetime.now(UTC) - timedelta(seconds=302)
    assert receiver.client.post("/webhooks/mc", **signed(mailchannels, b"[]", old)).status_code == 401


def test_a_request_under_an_unknown_key_is_kept_apart_with_200(receiver, mailchannels):
    mailchannels.rotate()
    answer = receiver.client.post("/webhooks/mc", **signed(mailchannels, b"[]"))
    assert answer.status_code == 200
    [(state, key_id)] = receiver.rows("SELECT state, key_id FROM parked_receipts")
    assert (state, key_id) == ("unverified", mailchannels.key_id)
    assert receiver.rows("SELECT 1 FROM pending_receipts") == []
    assert receiver.wakeups == [VERIFY]


def test_a_request_whose_headers_are_not_stored_completely_is_refused_rather_than_kept_apart(receiver, mailchannels):
    mailchannels.rotate()
    request = signed(mailchannels, b"[]")
    request["headers"] = {"X-A": "x" * 9000, **request["headers"]}
    answer = receiver.client.post("/webhooks/mc", **request)
    assert (answer.status_code, answer.json["reason"]) == (401, "unknown_key")
    assert "headers" in answer.json["error"]
    assert receiver.rows("SELECT 1 FROM receipts") == []


def test_long_names_that_clients_invent_do_not_stay_in_memory(receiver):
    def post(numbers):
        invented = [(f"/webhooks/{number:09000}", {"headers": {f"X-{number:09000}": "z"}}) for number in numbers]
        assert set(receiver.parts.app.at_once(invented)) == {404}

    post(range(500))
    tracemalloc.start()
    try:
        for first in range(500, 1000, 50):
            post(range(first, first + 50))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 3_000_000, "each copy of a name would take 4.5 MB"
    finally:
        tracemalloc.stop()


def test_the_quarantine_has_limits_of_rows_and_bytes(make_receiver):
    for limits in ({"quarantine_rows": 2}, {"quarantine_bytes": 70}):
        receiver = make_receiver(**limits)
        dialect = MailChannels(seed=2)
        slug = f"mc-{next(iter(limits)).replace('_', '-')}"
        receiver.add_source(slug, "mailchannels", dialect.credentials())
        dialect.rotate()
        bodies = [b'[{"timestamp": %030d}]' % number for number in range(3)]
        codes = [receiver.client.post(f"/webhooks/{slug}", **signed(dialect, body)).status_code for body in bodies]
        assert codes[0] == 200
        assert codes[-1] == 503, "the request may be genuine, so its provider must try again"
        assert (slug, 503, "quarantine_full", 1) in receiver.refused()


def test_during_a_secret_repair_failures_are_quarantined(receiver):
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    receiver.add_source("cm", "cloudmailin", {"username": "user", "password": "mistyped"}, quarantine_until=until)
    assert receiver.client.post("/webhooks/cm", data=BODY, headers=BASIC).status_code == 200
    [(content,)] = receiver.rows("SELECT content FROM receipts")
    headers, _ = stored_requests.unpack(content)
    assert "c2VjcmV0" not in headers
    assert BASIC["Authorization"] not in headers
    assert "sealed:" in headers


def test_credentials_are_not_stored_with_a_request(receiver):
    receiver.add_source("cm", "cloudmailin", CLOUDMAILIN)
    headers = {**BASIC, "Cookie": "a=b", "X-Api-Key": "k", "X-Note": "kept"}
    assert receiver.client.post("/webhooks/cm", data=BODY, headers=headers).status_code == 200
    [(content,)] = receiver.rows("SELECT content FROM receipts")
    names = set(json.loads(stored_requests.unpack(content)[0]))
    assert "x-note" in names
    assert names.isdisjoint({"authorization", "cookie", "x-api-key"})


def test_a_body_over_the_limit_is_413(make_receiver):
    receiver = make_receiver(max_body_bytes=2048)
    receiver.add_source("cm", "cloudmailin", CLOUDMAILIN)
    assert receiver.client.post("/webhooks/cm", data=b"x" * 2048, headers=BASIC).status_code == 200
    assert receiver.client.post("/webhooks/cm", data=b"x" * 2049, headers=BASIC).status_code == 413
    assert receiver.refused()[-1][:3] == ("cm", 413, "too_large")


def test_a_compressed_body_is_415(receiver, mailchannels):
    answer = receiver.client.post("/webhooks/mc", data=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_a_changed_secret_holds_at_once(receiver):
    source = receiver.add_source("cm", "cloudmailin", CLOUDMAILIN)
    assert receiver.client.post("/webhooks/cm", data=BODY, headers=BASIC).status_code == 200
    from shared.sources import store as sources

    with receiver.database.begin() as connection:
        sources.update(connection, source, credentials=receiver.vault.seal({"username": "user", "password": "new"}))
    receiver.call(receiver.sources.refresh)
    assert receiver.client.post("/webhooks/cm", data=BODY, headers=BASIC).status_code == 401


def test_a_deleted_source_is_404(receiver):
    from shared.sources import store as sources

    receiver.add_source("cm", "cloudmailin", CLOUDMAILIN)
    receiver.client.get("/webhooks/cm")
    with receiver.database.begin() as connection:
        assert sources.delete(connection, "cm")
    receiver.call(receiver.sources.refresh)
    assert receiver.client.post("/webhooks/cm", data=BODY, headers=BASIC).status_code == 404


def test_a_source_whose_credentials_cannot_be_read_is_503_and_not_404(receiver):
    receiver.add_source("bad", "mailchannels", {"customer_handles": "no list"})
    answer = receiver.client.post("/webhooks/bad", data=b"[]")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_its_row_in_the_table_of_status_codes(provider):
    assert isinstance(PROVIDERS[provider].status_codes, StatusCodes)


def test_health_readiness_and_metrics(receiver, mailchannels):
    assert receiver.client.get("/healthz").status_code == 200
    assert receiver.client.get("/readyz").status_code == 200
    receiver.client.post("/webhooks/mc", **signed(mailchannels, b"[]"))
    receiver.client.post("/webhooks/unheard-of", data=b"")
    text = receiver.client.get("/metrics").text
    assert 'tidings_receiver_requests_total{outcome="accepted",source="mc"}' in text
    assert "unheard-of" not in text


def test_a_query_may_be_an_event_which_is_not_acknowledged_but_listed(receiver, mailchannels):
    answer = receiver.client.get("/webhooks/mc?event=bounce&to=a@b.example")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert [reason for _, _, reason, *_ in receiver.refused()] == ["unreadable"]
    assert receiver.client.head("/webhooks/mc?x=1").status_code == 200


ELASTIC = (
    "transaction=t&messageid=m&to=ann%40example.net&date=1%2F2%2F2026+4%3A17%3A27+PM&status=Error&category=NoMailbox"
)


def test_an_event_in_the_query_of_a_get_is_stored_without_the_secret_where_the_provider_sends_so(receiver):
    receiver.add_source("ee", "elasticemail", {"secret": "a+b c"})
    for url in ("/webhooks/ee", "/webhooks/ee?secret=a%2Bb+c"):
        assert receiver.client.get(url).status_code == 200  # a test of the URL
    assert receiver.client.head(f"/webhooks/ee?secret=a%2Bb+c&{ELASTIC}").status_code == 200
    assert receiver.rows("SELECT id FROM receipts") == []
    for _ in range(2):
        answer = receiver.client.get(f"/webhooks/ee?{ELASTIC.replace('&', '&secret=a%2Bb+c&', 1)}")
        assert answer.status_code == 200
        assert answer.json["receipt"]
    [(content,)] = receiver.rows("SELECT content FROM receipts")
    headers, body = stored_requests.unpack(content)
    assert body == ELASTIC.encode()
    assert "secret" not in str(headers)
    (event,) = PROVIDERS["elasticemail"].parse(body, None)
    assert (event.type, event.recipient, event.message_key) == ("bounced", "ann@example.net", "id:m")
    assert event.occurred_at == datetime(2026, 1, 2, 16, 17, 27, tzinfo=UTC)


@pytest.mark.parametrize("secret", ["", "secret=wrong&", "secret=&"])
def test_a_get_with_another_secret_is_refused_and_listed(receiver, secret):
    receiver.add_source("ee", "elasticemail", {"secret": "a+b c"})
    assert receiver.client.get(f"/webhooks/ee?{secret}{ELASTIC}").status_code == 401
    assert [row[0] for row in receiver.refused()] == ["ee"]
    assert receiver.rows("SELECT id FROM receipts") == []


def test_other_paths_and_methods_are_refused_without_a_fault(receiver, mailchannels):
    assert receiver.client.get("/").status_code == 404
    assert receiver.client.put("/webhooks/mc").status_code == 405


def test_forged_requests_delay_no_genuine_ones(make_receiver):
    receiver, mailchannels, stranger = make_receiver(quarantine_rows=10_000), MailChannels(seed=1), MailChannels(seed=3)
    receiver.add_source("mc", "mailchannels", mailchannels.credentials())
    stranger.rotate()
    forged = [("/webhooks/mc", signed(stranger, b"[%d]" % number)) for number in range(800)]
    genuine = [("/webhooks/mc", signed(mailchannels, b"[%d]" % number)) for number in range(20)]
    answers = receiver.parts.app.at_once([*forged, *genuine])
    assert answers[len(forged) :] == [200] * len(genuine)


def test_made_up_source_names_do_not_fill_the_table(receiver):
    made_up = [(f"/webhooks/made-up-{number}", {"data": b""}) for number in range(300)]
    # A few at a time: after a second in which a slow machine has not looked for a source, a request is answered 503.
    answers = [receiver.parts.app.at_once(made_up[first : first + 50]) for first in range(0, 300, 50)]
    assert {status for part in answers for status in part} == {404}
    refused = receiver.refused()
    assert sum(count for *_, count in refused) == 300
    assert len(refused) < 150  # 50 and one, in each of the moments that it took


def test_a_request_that_waited_in_vain_for_a_source_is_forgotten(receiver):
    assert not any(receiver.sources.refresh(max_seconds=0.0) for _ in range(20))
    assert receiver.sources.waiting_requests == 0

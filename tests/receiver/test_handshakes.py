"""Requests that are more than an event: confirmations of subscriptions, and tokens that are used once."""

import base64
import json
from datetime import UTC, datetime

import pytest

from simulator.providers.mailgun.webhooks import Mailgun
from simulator.providers.ses.webhooks import Ses
from simulator.scenarios import SCENARIOS
from simulator.staging import stage


@pytest.fixture
def mailgun(receiver):
    dialect = Mailgun()
    receiver.add_source("mg", "mailgun", dialect.credentials())
    play = stage(SCENARIOS["happy"], dialect, count=2, seed=1, now=datetime.now(UTC))
    return [posting.body for posting in play.postings]


def post(receiver, body, path="/webhooks/mg"):
    return receiver.client.post(path, data=body, headers={"Content-Type": "application/json"})


def with_event(body, **changes):
    document = json.loads(body)
    document["event-data"] |= changes
    return json.dumps(document).encode()


def test_an_exact_repetition_of_a_token_is_the_same_receipt(receiver, mailgun):
    first, again = post(receiver, mailgun[0]), post(receiver, mailgun[0])
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json == again.json
    assert receiver.rows("SELECT count(*) FROM receipts") == [(1,)]


def test_another_body_under_a_token_is_refused_as_a_replay(receiver, mailgun):
    assert post(receiver, mailgun[0]).status_code == 200
    forged = post(receiver, with_event(mailgun[0], event="failed", severity="permanent"))
    assert (forged.status_code, forged.json["reason"]) == (401, "replayed")
    assert post(receiver, mailgun[1]).status_code == 200
    assert receiver.rows("SELECT count(*) FROM receipts") == [(2,)]
    assert [reason for _, _, reason, *_ in receiver.refused()] == ["replayed"]


def test_a_replay_is_refused_beside_its_original_in_one_commit_too(receiver, mailgun):
    changed = [with_event(mailgun[0], id=f"forged-{number}") for number in range(20)]
    answers = receiver.parts.app.at_once([("/webhooks/mg", {"data": body}) for body in [mailgun[0], *changed]])
    assert sorted(answers) == [200, *[401] * len(changed)]
    assert receiver.rows("SELECT count(*) FROM receipts") == [(1,)]


def test_a_replay_of_a_receipt_that_is_dead_is_refused(receiver, mailgun):
    post(receiver, mailgun[0])
    receiver.rows(
        "INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, bytes, available_at, parked_at)"
        " SELECT id, source_id, 'dead', '', '', 1, now(), now() FROM receipts RETURNING 1"
    )
    assert post(receiver, with_event(mailgun[0], event="failed")).status_code == 401


def test_the_same_token_at_another_source_is_another(receiver, mailgun):
    receiver.add_source("other", "mailgun", Mailgun().credentials())
    assert post(receiver, mailgun[0]).status_code == 200
    assert post(receiver, mailgun[0], "/webhooks/other").status_code == 401  # another key


def test_a_confirmation_is_stored_for_a_worker_and_answered(receiver):
    dialect = Ses()
    receiver.add_source("ses", "ses", dialect.credentials())
    body = dialect.confirmation(datetime.now(UTC))
    answer = receiver.client.post("/webhooks/ses", data=body, headers=dialect.sign(body, datetime.now(UTC)))
    assert answer.status_code == 200
    assert receiver.rows("SELECT state, key_id FROM parked_receipts") == [("unverified", dialect.key_id)]


def test_a_message_of_another_topic_is_refused_before_its_certificate_is_fetched(receiver):
    dialect = Ses()
    receiver.add_source("ses", "ses", {"topic_arns": ["arn:aws:sns:eu-central-1:123456789012:other"]})
    body = dialect.confirmation(datetime.now(UTC))
    answer = receiver.client.post("/webhooks/ses", data=body, headers=dialect.sign(body, datetime.now(UTC)))
    assert (answer.status_code, answer.json["reason"]) == (401, "bad_credentials")


def test_a_raw_delivery_is_asked_for_its_password_and_then_stored(receiver):
    dialect = Ses()
    topic = dialect.credentials()["topic_arns"][0]
    receiver.add_source("raw", "ses", {"topic_arns": [topic], "username": "sns", "password": "a-long-password"})
    receiver.add_source("ses", "ses", dialect.credentials())
    body = b'{"eventType":"Send","mail":{"messageId":"m","destination":["a@b.example"]},"send":{}}'
    headers = {"x-amz-sns-rawdelivery": "true", "x-amz-sns-topic-arn": topic}
    asked = receiver.client.post("/webhooks/raw", data=body, headers=headers)
    assert (asked.status_code, asked.headers["WWW-Authenticate"]) == (401, 'Basic realm="webhooks"')
    named = {**headers, "Authorization": "Basic " + base64.b64encode(b"sns:a-long-password").decode()}
    assert receiver.client.post("/webhooks/raw", data=body, headers=named).status_code == 200
    assert receiver.client.post("/webhooks/ses", data=body, headers=named).status_code == 401

"""A receiver that is down for a while, and the failures that its providers record."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from simulator import outage, post
from simulator.outage import Gate
from simulator.providers.ark.api import ArkAccount
from simulator.providers.ark.webhooks import Ark
from simulator.providers.base import RetryRule
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.scenarios import SCENARIOS
from simulator.server import ProviderServer
from simulator.serving import Call
from simulator.staging import Play, stage
from tests.support.simulator_http import Caller, Receiver


@pytest.fixture
def gate(receiver: Receiver) -> Iterator[Gate]:
    with Gate(receiver.url) as gate:
        yield gate


def play_of(dialect: MailChannels | Ark, count: int = 20) -> Play:
    return stage(SCENARIOS["happy"], dialect, count=count, seed=1, now=datetime.now(UTC))


@pytest.fixture
def account() -> Iterator[MailChannelsAccount]:
    with ProviderServer({"mc": MailChannels()}) as server:
        yield server.account("mc", MailChannelsAccount)


def test_an_open_gate_changes_nothing(receiver: Receiver, gate: Gate) -> None:
    receiver.codes = [410]
    answer = Caller(base=gate.url, headers={"X-Some": "thing"})("POST", "/webhooks/x", b"\xff\x00", a="b c")
    assert (answer.status, answer.content) == (410, b"noted")
    [call] = receiver.calls
    assert (call.path, call.query, call.body, call.headers["x-some"]) == (
        "/webhooks/x",
        {"a": "b c"},
        b"\xff\x00",
        "thing",
    )


def test_a_shut_gate_answers_or_hangs_up_and_lets_nothing_through(receiver: Receiver, gate: Gate) -> None:
    call = Caller(base=gate.url)
    gate.shut(503)
    assert call("POST", "/webhooks/x").status == 503
    gate.shut()
    with pytest.raises(ConnectionError):
        call("POST", "/webhooks/x")
    assert receiver.calls == []
    gate.open()
    assert call("POST", "/webhooks/x").status == 200


def test_behind_a_mute_gate_a_request_is_taken_and_looks_as_if_it_was_not(receiver: Receiver, gate: Gate) -> None:
    gate.mute()
    with pytest.raises(ConnectionError):
        Caller(base=gate.url)("POST", "/webhooks/x", b"taken")
    assert receiver.bodies == [b"taken"]


def test_only_posts_pass(receiver: Receiver, gate: Gate) -> None:
    assert Caller(base=gate.url)("GET", "/webhooks/x").status == 405
    assert receiver.calls == []


def test_what_an_outage_lost_is_listed_as_failed_and_nothing_else(
    receiver: Receiver, gate: Gate, account: MailChannelsAccount
) -> None:
    url = account.enrol(f"{gate.url}/webhooks/x")
    postings = play_of(account.dialect).postings
    came = outage.send_through(postings, account.dialect, gate, url, account.log)
    assert set(came.before.statuses) == set(came.after.statuses) == {200}
    assert set(came.unreachable.statuses) == {post.NO_ANSWER}
    assert set(came.unavailable.statuses) == {503}
    lost = [delivery.request.body for delivery in account.log.failed()]
    assert len(lost) == came.unreachable.statuses[post.NO_ANSWER] + came.unavailable.statuses[503]
    assert sorted(lost + receiver.bodies) == sorted(posting.body for posting in postings)


@pytest.mark.parametrize("count", range(1, 8))
def test_every_posting_is_sent_once_however_few_there_are(
    receiver: Receiver, gate: Gate, account: MailChannelsAccount, count: int
) -> None:
    url = account.enrol(f"{gate.url}/webhooks/x")
    postings = play_of(account.dialect).postings[:count]
    outage.send_through(postings, account.dialect, gate, url, account.log)
    assert len(account.log.newest_first()) == count


def test_everything_that_failed_can_be_resent(receiver: Receiver, gate: Gate, account: MailChannelsAccount) -> None:
    url = account.enrol(f"{gate.url}/webhooks/x")
    postings = play_of(account.dialect).postings
    outage.send_through(postings, account.dialect, gate, url, account.log)
    for delivery in account.log.failed():
        path = f"/webhook-batch/{delivery.number}/resend"
        response = account.handle(Call(method="POST", path=path, headers={"x-api-key": account.dialect.api_key}))
        assert response.status == 200
    assert account.log.failed() == []
    assert sorted(receiver.bodies) == sorted(posting.body for posting in postings)


def test_ark_will_try_again_by_itself(receiver: Receiver, gate: Gate) -> None:
    dialect = Ark()
    with ProviderServer({"ark": dialect}) as server:
        account = server.account("ark", ArkAccount)
        url = f"{gate.url}/webhooks/x"
        account.enrol(url)
        postings = play_of(dialect).postings
        outage.send_through(postings, dialect, gate, url, account.log)
        lost = account.log.failed()
        assert lost
        assert all(account.log.will_retry(delivery) for delivery in lost)
        assert len(account.retry()) == len(lost)
        assert sorted(receiver.bodies) == sorted(posting.body for posting in postings)


def test_attempts_that_are_made_while_sending_are_linked(receiver: Receiver) -> None:
    dialect = Ark()
    with ProviderServer({"ark": dialect}) as server:
        account = server.account("ark", ArkAccount)
        account.enrol(receiver.endpoint)
        receiver.codes = [503, 503]
        rule = RetryRule(delays_seconds=(0, 0))
        post.send(play_of(dialect).postings[:1], dialect, receiver.endpoint, retry=rule, log=account.log)
        third, second, first = account.log.newest_first()
        assert [one.attempt for one in (first, second, third)] == [1, 2, 3]
        assert [one.repeats for one in (first, second, third)] == [None, first.number, second.number]
        assert account.retry() == []

"""The providers' APIs fail in the ways that a client must tolerate."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cli.embedded.server import eventually
from simulator.providers.api import faults
from simulator.providers.ark.api import ArkAccount
from simulator.providers.ark.webhooks import Ark
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.server import ProviderServer
from tests.support.simulator_http import Caller, Receiver, send_postings


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer({"mc": MailChannels(), "ark": Ark()}) as server:
        yield server


def fail(account: MailChannelsAccount, receiver: Receiver, count: int) -> None:
    send_postings(account, receiver, *[503] * count)


def failed_ids(call: Caller, **query: int) -> list[int]:
    document = call("GET", "/webhook-batch", statuses="5xx", **query).document
    return [batch["batch_id"] for batch in document["webhook_batches"]]


def test_the_next_calls_are_too_many(call: Caller, account: MailChannelsAccount) -> None:
    account.faults.add(faults.rate_limited(7), calls=2)
    for _ in range(2):
        answer = call("GET", "/webhook")
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert answer.document == {"errors": ["too many requests"]}
    assert call("GET", "/webhook").status == 200


@pytest.mark.parametrize("status", [500, 503])
def test_the_next_calls_fail_and_nothing_is_done(call: Caller, account: MailChannelsAccount, status: int) -> None:
    account.faults.add(faults.failing(status))
    assert call("DELETE", "/webhook").status == status
    assert len(account.webhooks) == 1


def test_ark_fails_in_its_own_form(server: ProviderServer) -> None:
    account = server.account("ark", ArkAccount)
    account.faults.add(faults.rate_limited())
    answer = Caller(base=server.settings("ark")["api_base"])("GET", "/webhooks")
    assert (answer.status, answer.document["error"]["code"]) == (429, "too_many_requests")


def test_a_fault_is_for_the_calls_that_it_names(call: Caller, account: MailChannelsAccount) -> None:
    account.faults.add(faults.failing(), calls=2, to="GET /suppression-list")
    assert call("GET", "/webhook").status == 200
    assert call("GET", "/suppression-list").status == 503
    assert account.faults.left == 1
    account.faults.clear()
    assert call("GET", "/suppression-list").status == 200


def test_faults_come_in_the_order_in_which_they_were_added(call: Caller, account: MailChannelsAccount) -> None:
    account.faults.add(faults.failing(500))
    account.faults.add(faults.rate_limited())
    assert [call("GET", "/webhook").status for _ in range(3)] == [500, 429, 200]


def test_one_accounts_faults_are_not_anothers(server: ProviderServer, account: MailChannelsAccount) -> None:
    account.faults.add(faults.failing())
    assert Caller(base=server.settings("ark")["api_base"])("GET", "/webhooks").status == 401


def test_an_answer_can_come_too_late_for_what_was_done(call: Caller, account: MailChannelsAccount) -> None:
    account.faults.add(faults.slow(1.5))
    with pytest.raises(TimeoutError):
        replace(call, timeout_seconds=0.5)("POST", "/webhook", endpoint="https://hooks.example/")
    assert eventually(lambda: "https://hooks.example/" in account.webhooks, timeout_seconds=60)


def test_json_can_end_half_way_in_a_whole_answer(call: Caller, account: MailChannelsAccount) -> None:
    account.faults.add(faults.truncated())
    answer = call("GET", "/webhook")
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.content)


def test_the_connection_can_end_in_the_middle_of_an_answer(call: Caller, account: MailChannelsAccount) -> None:
    account.faults.add(faults.cut_off())
    with pytest.raises(http.client.IncompleteRead):
        call("GET", "/webhook")
    assert call("GET", "/webhook").status == 200


def test_the_answer_to_a_resend_can_be_lost_after_the_post(
    call: Caller, account: MailChannelsAccount, receiver: Receiver
) -> None:
    fail(account, receiver, 1)
    [batch_id] = failed_ids(call)
    account.faults.add(faults.lost(), to="/resend")
    with pytest.raises(ConnectionResetError):
        call("POST", f"/webhook-batch/{batch_id}/resend")
    assert len(set(receiver.bodies)) == 1
    assert len(receiver.bodies) == 2
    assert failed_ids(call) == []


def test_new_batches_shift_the_pages_of_a_list(call: Caller, account: MailChannelsAccount, receiver: Receiver) -> None:
    fail(account, receiver, 4)
    whole = failed_ids(call)
    account.faults.add(faults.interlude(lambda: fail(account, receiver, 1)), to="GET /webhook-batch")
    first, second = failed_ids(call, limit=2, offset=0), failed_ids(call, limit=2, offset=2)
    assert (first, second) == (whole[:2], whole[1:3])


def test_batches_that_were_resent_shift_the_pages_too(
    call: Caller, account: MailChannelsAccount, receiver: Receiver
) -> None:
    fail(account, receiver, 4)
    whole = failed_ids(call)
    for batch_id in failed_ids(call, limit=2):
        call("POST", f"/webhook-batch/{batch_id}/resend")
    assert failed_ids(call, limit=2, offset=2) == []
    assert failed_ids(call) == whole[2:]

"""One bounce of each described provider, from its webhook to the state, the suppression list and the feed."""

import pytest

from tests.support.signed_requests import DESCRIBED, given, read_payloads
from tests.support.system import System
from workers import process_receipts

RECIPIENT = "maria@customer.example"


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_bounce_reaches_state_suppression_and_feed(system: System, name: str) -> None:
    system.create_source(name, name, **given(name))
    system.queue_body(read_payloads(name)["sample"], name)
    process_receipts.process_due(system.ctx)
    (message,) = system.get("/v1/messages")["items"]
    (recipient,) = message["recipients"]
    assert (recipient["recipient"], recipient["status"]) == (RECIPIENT, "bounced")
    assert recipient["classification"] == "invalid_recipient"
    (entry,) = system.get("/v1/suppressions")["items"]
    assert (entry["address"], entry["reason"], entry["source"]) == (RECIPIENT, "hard_bounce", name)
    types = [change["type"] for change in system.get("/v1/changes")["items"]]
    assert sorted(types) == ["message.bounced", "suppression.added"]

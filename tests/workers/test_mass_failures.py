"""If many recipients of one domain fail alike, the sender is at fault: nobody is suppressed, and an alert says so."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.alerts import kinds
from shared.receipts import store as receipt_store
from shared.sources.source import Source
from shared.suppression.mass_failures import RECIPIENTS
from tests.support.system import System
from workers import process_receipts as draining
from workers import reprocess_receipts
from workers import suppressions as workers_suppressions
from workers.alerts import evaluate

DOMAIN = "customer.example"


@pytest.fixture
def source(system: System) -> Source:
    return system.add_source("main", "mailchannels", {"customer_handles": ["acct"], "public_keys": {}})


def event(kind: str, recipient: str, **fields: Any) -> dict[str, Any]:
    """One event of a message of its own, that happened now."""
    return {
        "event": kind,
        "email": "shop@example.com",
        "customer_handle": "acct",
        "timestamp": int(datetime.now(UTC).timestamp()),
        "request_id": f"m-{recipient}",
        "recipients": [recipient],
        **fields,
    }


def receive(system: System, source: Source, events: Iterable[dict[str, Any]]) -> Any:
    """A receipt with these events, processed."""
    receipt = system.store_receipt(source, json.dumps(list(events)).encode())
    draining.process_due(system.ctx)
    return receipt


def fail(system: System, source: Source, numbers: Iterable[int], domain: str = DOMAIN, **fields: Any) -> Any:
    """These recipients of a domain bounce."""
    reply = {"status": "550", "reason": "5.1.1 User unknown", **fields}
    return receive(system, source, [event("hard-bounced", f"r{number}@{domain}", **reply) for number in numbers])


def suppressed(system: System) -> int:
    found: int = system.rows("SELECT count(*) FROM suppressions")[0][0]
    return found


def test_what_many_alike_failures_of_one_domain_suppressed_is_withdrawn(system: System, source: Source) -> None:
    fail(system, source, range(RECIPIENTS), domain=DOMAIN.upper())
    fail(system, source, [1], domain="other.example")
    assert suppressed(system) == RECIPIENTS + 1
    assert workers_suppressions.withdraw_mass_failures(system.ctx) == RECIPIENTS
    assert system.rows("SELECT address FROM suppressions") == [("r1@other.example",)]
    actions = system.rows("SELECT action, count(*) FROM suppression_history GROUP BY action ORDER BY action")
    assert actions == [("added", RECIPIENTS + 1), ("withdrawn", RECIPIENTS)]
    assert workers_suppressions.withdraw_mass_failures(system.ctx) == 0


def test_further_failures_of_the_kind_suppress_nobody_for_an_hour(system: System, source: Source) -> None:
    fail(system, source, range(RECIPIENTS))
    workers_suppressions.withdraw_mass_failures(system.ctx)
    fail(system, source, [100])
    assert suppressed(system) == 0
    # Another reason, another domain and another time are not a part of it.
    fail(system, source, [101], reason="5.1.2 domain not found")
    fail(system, source, [102], domain="other.example")
    fail(system, source, [103], timestamp=int((datetime.now(UTC) - timedelta(hours=3)).timestamp()))
    addresses = system.rows("SELECT address FROM suppressions ORDER BY address")
    assert addresses == [(f"r101@{DOMAIN}",), ("r102@other.example",), (f"r103@{DOMAIN}",)]


def test_reprocessing_restores_nothing(system: System, source: Source) -> None:
    receipt = fail(system, source, range(RECIPIENTS))
    workers_suppressions.withdraw_mass_failures(system.ctx)
    with system.ctx.engine_sync_commit.begin() as connection:
        assert receipt_store.queue_reprocessing(connection, [receipt]) == 1
    reprocess_receipts.reprocess_due(system.ctx)
    assert suppressed(system) == 0


@pytest.mark.parametrize("delivered", [1, 2])
def test_a_domain_that_accepts_other_mail_judges_single_addresses(
    system: System, source: Source, delivered: int
) -> None:
    half = RECIPIENTS // 2
    fail(system, source, range(half))
    receive(system, source, [event("delivered", f"alive{number}@{DOMAIN}") for number in range(delivered)])
    fail(system, source, range(half, RECIPIENTS))
    withdrawn = workers_suppressions.withdraw_mass_failures(system.ctx)
    assert withdrawn == (0 if delivered > 1 else RECIPIENTS)


def test_fewer_or_different_or_old_failures_are_no_mass_failures(system: System, source: Source) -> None:
    fail(system, source, range(RECIPIENTS - 1))
    fail(system, source, range(RECIPIENTS - 1), reason="5.1.1 no such user")  # the same recipients again
    fail(system, source, [100], reason="5.1.2 domain not found")
    assert workers_suppressions.withdraw_mass_failures(system.ctx) == 0
    fail(system, source, [101])
    later = datetime.now(UTC) + timedelta(hours=1, minutes=1)
    assert workers_suppressions.withdraw_mass_failures(system.ctx, later) == 0
    assert workers_suppressions.withdraw_mass_failures(system.ctx) == RECIPIENTS


def test_complaints_and_manual_entries_stay(system: System, source: Source) -> None:
    receive(system, source, [event("complained", f"r{number}@{DOMAIN}") for number in range(RECIPIENTS)])
    assert workers_suppressions.withdraw_mass_failures(system.ctx) == 0
    fail(system, source, range(RECIPIENTS))
    assert workers_suppressions.withdraw_mass_failures(system.ctx) == RECIPIENTS
    assert system.rows("SELECT DISTINCT reason FROM suppressions") == [("complaint",)]


def test_an_alert_says_who_failed_and_that_nobody_is_suppressed(system: System, source: Source) -> None:
    fail(system, source, range(RECIPIENTS))
    evaluate.evaluate(system.ctx, datetime.now(UTC))
    assert system.rows("SELECT count(*) FROM alerts WHERE rule = 'mass-failures'") == [(0,)]
    workers_suppressions.withdraw_mass_failures(system.ctx)
    evaluate.evaluate(system.ctx, datetime.now(UTC))
    [(subject, summary)] = system.rows("SELECT subject, summary FROM alerts WHERE rule = 'mass-failures'")
    assert subject == DOMAIN
    assert summary.startswith(f"{RECIPIENTS} recipients of {DOMAIN} failed alike (invalid recipient) in 60 minutes")
    assert "none of them is suppressed" in summary
    assert "tidings classify" in kinds.next_step("mass_failures")
    for minutes in range(62, 72):
        evaluate.evaluate(system.ctx, datetime.now(UTC) + timedelta(minutes=minutes))
    assert system.rows("SELECT state FROM alerts WHERE rule = 'mass-failures'") == [("resolved",)]

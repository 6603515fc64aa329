"""Addresses that an earlier version stored in another form are found again, with all that is known of them."""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

from alembic.migration import MigrationContext
from alembic.operations import Operations

from shared.jobs import store as jobs
from shared.suppression import queries
from shared.suppression import store as suppressions
from shared.suppression.store import NewEntry
from shared.vocabulary import ALL_MAIL, JobState, MailType, SuppressionOrigin, SuppressionReason
from tests.support.system import System, mailchannels_event
from workers import maintenance
from workers.jobs import runner as working

NOW = datetime.now(UTC).replace(microsecond=0)
OLD, NEW = "mu\N{COMBINING DIAERESIS}ller@customer.example", "müller@customer.example"
QUOTED = '"anna"@customer.example'


def entry(
    system: System, address: str, *, types: frozenset[MailType] = ALL_MAIL, until: datetime | None = None
) -> None:
    new = NewEntry(
        key=system.ctx.hasher.hash_normalized(address),
        address=address,
        domain=None,
        reason=SuppressionReason.MANUAL,
        types=types,
        origin=SuppressionOrigin.PERSON,
        since=NOW,
        until=until,
        note="asked us not to",
    )
    with system.engine.begin() as connection:
        suppressions.add(connection, [new], NOW)


def rewrite(system: System) -> dict[str, Any]:
    with system.engine.begin() as connection:
        job_id = jobs.create(connection, kind=maintenance.REWRITE_ADDRESSES, parameters={}, asked_by="a test", now=NOW)
    working.run_due(system.ctx)
    with system.engine.begin() as connection:
        job = jobs.find(connection, job_id)
    assert job is not None
    assert job.state is JobState.DONE, job.error
    return dict(job.report)


def explain(system: System, address: str) -> dict[str, Any]:
    found: dict[str, Any] = system.get(f"/v1/suppressions/{address}")
    return found


def test_entries_move_to_the_form_under_which_they_are_looked_up(system: System) -> None:
    entry(system, OLD)
    entry(system, QUOTED)
    entry(system, "bob@customer.example")
    assert rewrite(system)["suppressions"] == 2
    for written in (OLD, NEW, "anna@customer.example", QUOTED, "bob@customer.example"):
        found = explain(system, written)
        assert found["suppressed"], written
        assert [step["action"] for step in found["history"]] == ["added"]
        assert found["entries"][0]["note"] == "asked us not to"
    assert rewrite(system)["suppressions"] == 0


def test_two_entries_of_one_address_become_one_that_suppresses_the_mail_of_both(system: System) -> None:
    entry(system, OLD, types=frozenset({MailType.TRANSACTIONAL}))
    entry(system, NEW, types=frozenset({MailType.NON_TRANSACTIONAL}), until=NOW + timedelta(days=1))
    rewrite(system)
    (found,) = explain(system, NEW)["entries"]
    assert set(found["types"]) == ALL_MAIL
    assert found["expires_at"] is None
    assert len(explain(system, NEW)["history"]) == 2


def test_a_lift_of_the_old_form_is_remembered(system: System) -> None:
    entry(system, OLD)
    key = system.ctx.hasher.hash_normalized(OLD)
    with system.engine.begin() as connection:
        suppressions.lift(connection, keys=[key], tenant=None, reason=None, actor="ann", note=None)
    entry(system, OLD)
    rewrite(system)
    with system.engine.begin() as connection:
        assert queries.list_lifts(connection, [system.ctx.hasher.hash_address(NEW)])


def test_states_and_events_of_both_forms_are_folded_into_one(system: System) -> None:
    system.create_source()
    system.process_events(
        mailchannels_event("delivered", "one@customer.example", second=1),
        mailchannels_event("open", NEW, second=2),
        mailchannels_event("hard-bounced", "two@customer.example", second=3),
    )
    for address, old in (("one@customer.example", OLD), ("two@customer.example", QUOTED)):
        for table in ("events", "recipient_states", "state_changes"):
            system.execute(f"UPDATE {table} SET recipient = %(old)s WHERE recipient = %(new)s", old=old, new=address)
    system.execute("UPDATE messages SET sender = %(old)s", old='"shop"@example.com')
    rewrite(system)
    (message,) = system.list_items("/v1/messages", recipient=OLD, sender="shop@example.com")
    states = {state["recipient"]: state for state in message["recipients"]}
    assert states.keys() == {NEW, "anna@customer.example"}
    assert (states[NEW]["status"], states[NEW]["opened"]) == ("delivered", True)
    assert states["anna@customer.example"]["status"] == "bounced"
    assert len(system.list_items("/v1/events", recipient=NEW)) == 2
    assert {row[0] for row in system.rows("SELECT recipient FROM state_changes")} == states.keys()


def test_a_message_is_counted_once_among_the_soft_bounces_of_an_address(system: System) -> None:
    for recipient, message in ((OLD, 1), (NEW, 1), (OLD, 2)):
        system.execute(
            "INSERT INTO soft_bounces (recipient, tenant, message_id, source_id, first_at, first_key, first_event_id,"
            " last_at, last_key, last_event_id) VALUES (%(recipient)s, '', %(id)s, 1, now(), %(id)s, %(id)s, now(),"
            " %(id)s, %(id)s)",
            recipient=recipient,
            id=UUID(int=message),
        )
    rewrite(system)
    assert sorted(system.rows("SELECT recipient, message_id FROM soft_bounces")) == [
        (NEW, UUID(int=1)),
        (NEW, UUID(int=2)),
    ]


def test_the_migration_asks_for_it_only_where_something_is_stored(system: System) -> None:
    assert system.rows("SELECT FROM jobs WHERE kind = 'rewrite_addresses'") == []
    entry(system, NEW)
    with system.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE recipient_states DROP COLUMN timed")
        context = MigrationContext.configure(connection)
        with Operations.context(context):
            import_module("shared.postgres.migrations.versions.0011_address_forms").upgrade()
    assert len(system.rows("SELECT FROM jobs WHERE kind = 'rewrite_addresses' AND state = 'queued'")) == 1

"""The payload of a change is built once for all subscribers of a tenant."""

from sqlalchemy import event

from shared.vocabulary import PayloadFormat
from tests.support.system import System
from workers.deliveries.payload_cache import PayloadCache


def test_a_change_is_read_and_encoded_once_for_each_subscribed_tenant(system: System) -> None:
    payloads, statements = PayloadCache(), list[str]()
    with system.ctx.engine.begin() as connection:
        transaction, change = connection.exec_driver_sql(
            "INSERT INTO state_changes (type, data) VALUES ('alert.firing', '{\"tenant\": \"alpha\"}')"
            " RETURNING transaction::text::bigint, id"
        ).one()
        place = (transaction, change)
        event.listen(connection, "before_cursor_execute", lambda *given: statements.append(given[2]))
        counts = []
        for tenants in (["alpha"] * 3, ["alpha"] * 3, [None, "alpha"], ["zulu"]):
            payloads.load(connection, [(place, tenant, False) for tenant in tenants])
            counts.append(len(statements))
    assert counts[0] == counts[1] == counts[2] // 2
    received = {
        tenant: payloads.get((place, tenant, False), PayloadFormat.TIDINGS) for tenant in ("alpha", None, "zulu")
    }
    assert received["alpha"] == received[None] is not None
    assert payloads.get((place, "alpha", False), PayloadFormat.TIDINGS) is received["alpha"]
    assert received["zulu"] is None

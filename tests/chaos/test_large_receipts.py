"""One webhook with very many recipients, or with more than fits into memory, stops neither its worker nor others."""

import json
from pathlib import Path

from tests.support import traffic
from tests.support.cluster import Cluster, SimulatedSource

MIB = 1024 * 1024
BEGIN = 1_790_000_000


def item(source: SimulatedSource, request_id: str, recipients: list[str]) -> bytes:
    """One hard bounce of these recipients."""
    (customer_handle,) = source.dialect.credentials()["customer_handles"]
    fields = {"customer_handle": customer_handle, "event": "hard-bounced", "email": "shop@example.com"}
    body = [{**fields, "timestamp": BEGIN, "request_id": request_id, "recipients": recipients, "status": "550"}]
    return json.dumps(body, separators=(",", ":")).encode()


def memory(pid: int, name: str) -> int:
    """Return a value of /proc/<pid>/status, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def children_of_worker(cluster: Cluster) -> list[int]:
    """Return the processes that run the tasks of the only worker."""
    parent = cluster.processes["worker"].pid
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def pending(source: SimulatedSource) -> int:
    return int(source.cluster.rows("SELECT count(*) FROM pending_receipts")[0][0])


def test_sixty_thousand_recipients_are_processed_in_little_memory_while_others_do_not_wait(
    source: SimulatedSource,
) -> None:
    cluster = source.cluster
    cluster.stop("worker 2")
    source.provider.send([item(source, "first", ["ann@example.net"])])
    cluster.wait_until_processed()
    before = {child: memory(child, "VmRSS") for child in children_of_worker(cluster)}

    source.provider.send([item(source, "large", [f"p{number:05}@example.net" for number in range(60_000)])])
    cluster.wait_for(lambda: bool(cluster.leased()) or not pending(source), "worker")
    source.provider.send([item(source, f"small {number}", [f"n{number}@example.org"]) for number in range(20)])
    cluster.wait_until_processed(expire_leases=False)

    assert children_of_worker(cluster) == list(before)
    assert max(memory(child, "VmHWM") - least for child, least in before.items()) < 256 * MIB
    states = "SELECT count(*) FROM recipient_states WHERE status = 'bounced' AND source_id = %(id)s"
    assert cluster.rows(states, id=source.source_id) == [(60_021,)]
    objects = "SELECT count(*) FROM event_objects JOIN events USING (id) WHERE source_id = %(id)s"
    assert cluster.rows(objects, id=source.source_id) == [(1,)]
    [(small, large)] = cluster.rows(
        "SELECT max(c.id) FILTER (WHERE recipient LIKE 'n%%@example.org'),"
        " max(c.id) FILTER (WHERE recipient LIKE 'p%%@example.net') FROM state_changes AS c WHERE source_id = %(id)s",
        id=source.source_id,
    )
    assert small < large
    cluster.assert_nothing_doubled()


def test_a_body_that_needs_more_memory_than_a_worker_may_use_ends_dead_with_the_reason(source: SimulatedSource) -> None:
    cluster = source.cluster
    cluster.stop("worker", "worker 2")
    source.provider.send([traffic.HUNGRY, item(source, "small", ["ann@example.net"])])
    cluster.start("worker that fails", application="tests.chaos.crashing_worker")

    # A lease that expires while its worker runs out of memory would make this the attempt of a worker that crashed.
    cluster.wait_until_processed(due_after_seconds=0.5, expire_leases=False, ring=True)

    assert cluster.rows(
        "SELECT state, reason, detail, attempts FROM parked_receipts WHERE source_id = %(id)s", id=source.source_id
    ) == [("dead", "failed", "its events need more memory than a worker may use", 5)]
    assert len(cluster.states(source.source_id)) == 1
    assert cluster.processes["worker that fails"].is_running


def test_more_events_than_a_webhook_may_have_are_refused_before_they_are_made(source: SimulatedSource) -> None:
    receipts = source.provider.send([b"[" + b"1," * (2 * MIB) + b"1]", item(source, "small", ["ann@example.net"])])
    source.cluster.wait_until_processed()
    assert source.count_by_state(receipts.ids) == {"dead": 1, "processed": 1}
    [(reason, detail)] = source.cluster.rows(
        "SELECT reason, detail FROM parked_receipts WHERE source_id = %(id)s", id=source.source_id
    )
    assert reason == "unreadable"
    assert "the limit is 200000" in detail

"""Latency of a suppression check with a million entries on the list."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from bench import load
from bench.caller import Answer, Caller
from bench.figures import Figure, Findings
from bench.plan import Plan
from bench.sides import Tidings
from bench.stage import Stage
from shared.auth import keys as auth_keys
from shared.auth.keys import Scope
from shared.encryption import Vault
from shared.postgres import engine
from shared.suppression import recipient_hashes
from shared.suppression import store as suppressions
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.store import NewEntry
from shared.vocabulary import ALL_MAIL, SuppressionOrigin, SuppressionReason

_AT_ONCE: Final = 10_000
_SHARE_SUPPRESSED: Final = 0.1
_SINGLE_P99_MS: Final = 5.0
_MANY_MS: Final = 300.0
_WARM_UP: Final = 50
_TABLES: Final = "suppressions, suppression_history, suppression_lifts, state_changes, api_keys"

# Entries that are never looked up: any key will do.
_FILL: Final = """
INSERT INTO suppressions (key, tenant, reason, origin, id, address, types, since, created_at)
SELECT md5(n::text)::uuid, '', 'hard_bounce', 'event', md5('id' || n)::uuid, 'customer.' || n || '@post.example',
    '{non_transactional,transactional}', now(), now()
FROM generate_series(1, %(entries)s) AS n
"""


def run(stage: Stage, plan: Plan) -> Findings:
    """Check one address at a time, then ten thousand, over HTTP with an application's key. Only Tidings is measured."""
    side = stage.tidings
    listed = [f"listed.{number}@post.example" for number in range(_AT_ONCE)]
    bearer = _fill(side, plan.suppressed, listed)
    side.start("api")
    side.processes.wait_until(lambda: side.place.api.answers("/healthz"), f"{side.name}-api")
    try:
        with Caller((side.place.api.host, side.place.api.port)) as caller:
            return _measure(side, caller, bearer, listed, plan)
    finally:
        side.processes.stop(f"{side.name}-api")
        with side.connect() as connection:
            connection.execute(f"TRUNCATE {_TABLES}")


def _fill(side: Tidings, entries: int, listed: Sequence[str]) -> str:
    """Put this number of entries on the list, these addresses included; return an API key."""
    side.reset()
    target = engine.create_engine(
        side.place.database_url, application="bench", pool_size=1, statement_timeout_ms=600_000
    )
    with target.begin() as connection:
        connection.exec_driver_sql(_FILL, {"entries": entries - len(listed)})
        _add(connection, recipient_hashes.load(connection, Vault([side.place.secret_key])), listed)
        bearer = auth_keys.create_key(connection, "bench", Scope.READ).secret
    target.dispose()
    with side.connect() as connection:
        connection.execute("VACUUM ANALYZE suppressions")
        connection.execute("CHECKPOINT")
    return bearer


def _add(connection: Connection, keys: RecipientHasher, addresses: Sequence[str]) -> None:
    now = datetime.now(UTC)
    entries = [
        NewEntry(
            key=keys.hash_address(address),
            address=address,
            domain=None,
            reason=SuppressionReason.MANUAL,
            types=ALL_MAIL,
            origin=SuppressionOrigin.PERSON,
            since=now,
        )
        for address in addresses
    ]
    suppressions.add(connection, entries, now)


def _measure(side: Tidings, caller: Caller, bearer: str, listed: Sequence[str], plan: Plan) -> Findings:
    rng, findings = random.Random(600), Findings()

    def ask(addresses: Sequence[str]) -> Answer:
        answer = caller.call(_post(side, bearer, addresses))
        if not _is_right(answer, addresses):
            findings.wrong.append(f"suppression: {len(addresses)} addresses were answered {answer.status} and wrongly")
        return answer

    def some(count: int) -> list[str]:
        return [
            rng.choice(listed) if rng.random() < _SHARE_SUPPRESSED else f"customer.{rng.random()}@shop.example"
            for _ in range(count)
        ]

    for _ in range(_WARM_UP):
        ask(some(1))
    singles = [ask(some(1)) for _ in range(plan.single_checks)]
    many = [1000 * ask(some(_AT_ONCE)).seconds for _ in range(plan.large_checks)]
    all_listed = [1000 * ask(listed).seconds for _ in range(plan.large_checks)]
    outside = [1000 * answer.seconds for answer in singles]
    inside = [1000 * answer.seconds_inside for answer in singles]
    what = f"suppression check, {plan.suppressed:,} entries"
    findings.figures += [
        Figure(what=f"{what}: one address, median", unit="ms", tidings=[load.percentile(outside, 0.5)]),
        Figure(what=f"{what}: one address, p99", unit="ms", tidings=[load.percentile(outside, 0.99)]),
        Figure(
            what=f"{what}: one address, p99 inside the API process",
            unit="ms",
            tidings=[load.percentile(inside, 0.99)],
            at_most=_SINGLE_P99_MS,
        ),
        Figure(what=f"{what}: {_AT_ONCE:,} in one call", unit="ms", tidings=many, at_most=_MANY_MS),
        Figure(what=f"{what}: {_AT_ONCE:,} in one call, all suppressed", unit="ms", tidings=all_listed),
    ]
    findings.notes.append(
        f"Suppression checks: `POST /v1/suppressions/check` on one kept connection, one call after the other, with"
        f" a key of the API; {len(singles):,} calls with one address and {len(many)} with {_AT_ONCE:,}, a tenth of them"
        " suppressed. The time is the caller's, from sending to the end of the answer; inside the process, what"
        " `Server-Timing` says."
    )
    return findings


def _post(side: Tidings, bearer: str, addresses: Sequence[str]) -> bytes:
    body = json.dumps({"addresses": addresses}).encode()
    head = (
        f"POST /v1/suppressions/check HTTP/1.1\r\nHost: {side.place.api.host}\r\nAuthorization: Bearer {bearer}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _is_right(answer: Answer, addresses: Sequence[str]) -> bool:
    if answer.status != 200:
        return False
    results = json.loads(answer.body)["results"]
    return [(result["address"], result["suppressed"]) for result in results] == [
        (address, address.startswith("listed.")) for address in addresses
    ]

"""Waiting for the outcomes of outbound calls."""

from collections.abc import Sequence

from shared.egress.client import EgressClient
from shared.egress.types import Call, Outcome

_PATIENCE_SECONDS = 60


def collect_outcomes(sender: EgressClient, calls: Sequence[Call]) -> list[Outcome]:
    """Submit these calls and return their outcomes; no other call may end meanwhile."""
    sender.submit(calls)
    found: list[Outcome] = []
    while len(found) < len(calls):
        heard = sender.collect(_PATIENCE_SECONDS)
        assert heard
        found += heard
    assert {outcome.key for outcome in found} == {one.key for one in calls}
    return found

"""What comes of calls."""

from collections.abc import Sequence

from shared.egress.client import Sender
from shared.egress.types import Call, Outcome

_PATIENCE_SECONDS = 15


def outcomes_of(sender: Sender, calls: Sequence[Call]) -> list[Outcome]:
    """What came of these, which must be the next to end."""
    sender.submit(calls)
    found: list[Outcome] = []
    while len(found) < len(calls):
        heard = sender.collect(_PATIENCE_SECONDS)
        assert heard
        found += heard
    assert {outcome.key for outcome in found} == {one.key for one in calls}
    return found

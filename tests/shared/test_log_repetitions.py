"""A fault that repeats does not fill the disk with its log lines."""

import pytest
from structlog import DropEvent

from shared.logs import MAX_REPETITIONS, RepetitionLimit


def test_repetitions_are_left_out_and_their_number_is_logged_later() -> None:
    now = [0.0]
    limit = RepetitionLimit(lambda: now[0])
    for _ in range(MAX_REPETITIONS):
        assert limit(None, "warning", {"event": "storage unavailable"}) == {"event": "storage unavailable"}
    for _ in range(7):
        with pytest.raises(DropEvent):
            limit(None, "warning", {"event": "storage unavailable"})
    assert limit(None, "warning", {"event": "something else"}) == {"event": "something else"}
    now[0] = 60
    line = limit(None, "warning", {"event": "storage unavailable"})
    assert line == {"event": "storage unavailable", "repetitions_left_out": 7}
    assert limit(None, "warning", {"event": "storage unavailable"}) == {"event": "storage unavailable"}

"""One system that has had traffic, for all tests of what can be watched."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.watched_system import WatchedSystem, watched_system


@pytest.fixture(scope="session")
def watched(session_dir: Path) -> Iterator[WatchedSystem]:
    """What was seen of a system that has had traffic of every kind, and has stopped."""
    data = session_dir / "watched"
    data.mkdir(mode=0o711)
    with watched_system(data) as seen:
        yield seen

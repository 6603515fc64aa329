"""One house for the whole folder, on servers with production's settings; every test finds it in order."""

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from cli import embedded
from cli.supervisor.watchdog import Watchdog
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.chaos.house import House
from tests.chaos.stage import Stage

_numbers = count(1)
_PROCESSES = ("receiver", "receiver 2", "worker", "worker 2", "beat")


@pytest.fixture(scope="package")
def standing_house(session_dir: Path, watchdog: Watchdog) -> Iterator[House]:
    """Two receivers, two workers and beat."""
    # Made anew where the tests of other folders came in between: a house has secret keys of its own.
    directory = Path(tempfile.mkdtemp(prefix="chaos-", dir=session_dir))
    directory.chmod(0o711)
    with (
        embedded.postgres(directory / "postgres", watchdog=watchdog) as postgres,
        embedded.redis(directory / "redis", watchdog=watchdog) as redis,
    ):
        house = House(postgres, redis, directory, watchdog)
        try:
            house.start_and_wait(*_PROCESSES)
            yield house
        finally:
            house.close()


@pytest.fixture
def house(standing_house: House) -> Iterator[House]:
    """The house, with everything in its place before and after."""
    yield standing_house
    standing_house.repair(*_PROCESSES)


@pytest.fixture
def stage(house: House) -> Stage:
    """A source that nobody has posted to."""
    number = next(_numbers)
    dialect = MailChannels(seed=number)
    slug = f"mc-{number}"
    return Stage(house, slug, dialect, house.add_source(slug, dialect))

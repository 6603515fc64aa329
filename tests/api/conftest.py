"""The API on a real database."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import estate as estates
from tests.api.house import ADMIN_KEY, House, opened
from tests.conftest import DatabaseServer, new_database
from tests.estate import Estate

TABLES = (
    "api_keys", "receipts", "pending_receipts", "parked_receipts", "receipt_keys", "refusals", "events", "event_keys",
    "messages", "recipient_states", "state_changes", "jobs", "job_files", "staged_suppressions", "erased_receipts",
    "suppressions", "suppression_lifts", "suppression_history", "soft_bounces", "soft_bounce_checks",
    "alerts", "alert_steps", "alert_rules", "alert_channels", "alert_notices", "audit_log", "idempotent_answers",
    "change_floor", "change_marks",
)  # fmt: skip


@pytest.fixture(scope="session")
def common_house(postgres: DatabaseServer, template: str) -> Iterator[House]:
    """A Tidings for all tests, one after the other: emptying it takes less time than making another."""
    with in_database(postgres, template) as made:
        yield made


@pytest.fixture
def house(common_house: House) -> Iterator[House]:
    """An empty Tidings."""
    common_house.key, common_house.bell.rings = ADMIN_KEY, 0
    yield common_house
    common_house.execute(";".join(f"DELETE FROM {table}" for table in TABLES))
    common_house.execute("TRUNCATE sources RESTART IDENTITY")


@pytest.fixture(scope="module")
def still_house(postgres: DatabaseServer, template: str) -> Iterator[House]:
    """A Tidings that the tests of a module share, because they only look at it."""
    with in_database(postgres, template) as made:
        yield made


@pytest.fixture(scope="session")
def common_estate(postgres: DatabaseServer, template: str) -> Iterator[Estate]:
    """A Tidings with deliverers, for all tests that deliver, one after the other."""
    with estates.in_new_database(postgres, template) as estate:
        yield estate


@pytest.fixture
def estate(common_estate: Estate) -> Iterator[Estate]:
    """A Tidings with deliverers, empty."""
    yield common_estate
    common_estate.clear()


@contextmanager
def in_database(postgres: DatabaseServer, template: str) -> Iterator[House]:
    with new_database(postgres, template) as url, opened(url) as made:
        yield made

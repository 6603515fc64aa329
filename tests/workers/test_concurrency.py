"""Tasks that wait for other servers occupy a limited part of a process."""

import threading
from collections.abc import Iterator

import pytest

from simulator.providers.api import faults
from tests.support.provider_env import ProviderEnv, open_provider_env
from workers import reconcile
from workers.context import ConcurrencyLimit


def test_a_caller_is_rejected_when_all_turns_are_taken() -> None:
    turns = ConcurrencyLimit(2)
    with turns.try_acquire() as first, turns.try_acquire() as second, turns.try_acquire() as third:
        assert (first, second, third) == (True, True, False)
    with turns.try_acquire() as again:
        assert again


def test_a_turn_ends_with_what_fails_in_it() -> None:
    turns = ConcurrencyLimit(1)
    with pytest.raises(ZeroDivisionError), turns.try_acquire():
        raise ZeroDivisionError
    with turns.try_acquire() as again:
        assert again


@pytest.fixture
def env(database_url: str) -> Iterator[ProviderEnv]:
    with open_provider_env(database_url, ["mc1", "mc2"]) as opened:
        yield opened


def test_while_one_asks_a_provider_that_hangs_no_other_does(env: ProviderEnv) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        may_answer.wait(60)

    for account in env.accounts.values():
        account.faults.add(faults.interlude(hang))
    thread = threading.Thread(target=reconcile.call_providers, args=(env.system.ctx,))
    thread.start()
    try:
        assert asked.wait(30)
        before = env.server.requests
        reconcile.call_providers(env.system.ctx)
        assert env.server.requests == before
    finally:
        may_answer.set()
        thread.join()
    reconcile.call_providers(env.system.ctx)
    assert all(env.reconciliation(slug).last_finished_at for slug in env.sources)

"""What providers failed to deliver is requested and received: once, marked, whatever goes wrong meanwhile."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

import pytest

from shared.errors import LeaseLostError
from shared.providers.api.base import FailedDelivery, ProviderApi, ResendResult
from shared.reconciliation import store as reconciliations
from shared.reconciliation.policy import FAILURES_IN_A_ROW
from shared.reconciliation.run import LEASE_SECONDS, Orders, Progress, Run, sleep_and_renew
from shared.sources import provider_api
from simulator import post
from simulator.connection import Exchange
from simulator.providers.api import faults
from simulator.providers.api.faults import Fault
from simulator.providers.ark.api import ArkAccount
from simulator.providers.base import Signed
from simulator.providers.mailchannels.api import AfterResend, MailChannelsAccount
from tests.support.provider_env import ProviderEnv, open_provider_env
from workers import reconcile, verification


@pytest.fixture
def env(database_url: str) -> Iterator[ProviderEnv]:
    with open_provider_env(database_url) as opened:
        yield opened


def mailchannels(env: ProviderEnv) -> MailChannelsAccount:
    account = env.accounts["mc"]
    assert isinstance(account, MailChannelsAccount)
    return account


def ark(env: ProviderEnv) -> ArkAccount:
    account = env.accounts["ark"]
    assert isinstance(account, ArkAccount)
    return account


class TestAnOutage:
    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_is_made_up_for_and_what_comes_late_is_marked(self, env: ProviderEnv, slug: str) -> None:
        play = env.make_play(slug)
        failed = env.send_during_outage(slug, play)
        assert failed > FAILURES_IN_A_ROW
        env.work()
        by_itself = env.receipt_ids()

        env.reconcile()

        env.assert_everything_arrived_once(play)
        found = env.failures(slug)
        assert [failure.state for failure in found] == ["recovered"] * failed
        assert {failure.receipt_id for failure in found} == env.reconciled_receipt_ids()
        assert len(env.reconciled_receipt_ids()) == failed
        assert not env.reconciled_receipt_ids() & by_itself
        (marked,) = env.system.rows(
            "SELECT count(*) FROM events AS e JOIN reconciled_receipts AS r"
            " ON left(r.receipt_id::text, 31) = left(e.id::text, 31)"
        )
        assert sum(failure.new_events or 0 for failure in found) == marked[0]

    @pytest.mark.parametrize("afterwards", AfterResend)
    def test_is_made_up_for_once_whatever_the_provider_lists_afterwards(
        self, env: ProviderEnv, afterwards: AfterResend
    ) -> None:
        mailchannels(env).after_resend = afterwards
        play = env.make_play("mc")
        failed = env.send_during_outage("mc", play)
        env.reconcile()
        asked = env.server.requests

        env.make_runs_due()
        env.reconcile()

        env.assert_everything_arrived_once(play)
        assert env.failure_states("mc") == {"recovered"}
        assert len(env.failures("mc")) == failed
        assert resends(env.server.requests) == resends(asked) == failed

    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_that_lost_only_the_answers_lost_nothing(self, env: ProviderEnv, slug: str) -> None:
        play, account = env.make_play(slug), env.accounts[slug]
        env.gate.mute()
        post.send(play.postings, account.dialect, env.url(slug), connections=1, log=account.log)
        env.gate.open()
        env.work()
        assert len(account.log.failed()) == len(play.postings)

        env.reconcile()

        env.assert_everything_arrived_once(play)
        assert env.failure_states(slug) == {"recovered"}
        assert {failure.new_events for failure in env.failures(slug)} == {0}

    def test_an_ongoing_outage_stops_the_run_which_catches_up_afterwards(self, env: ProviderEnv) -> None:
        play = env.make_play("mc")
        failed = env.send_during_outage("mc", play)
        env.gate.shut(503)
        env.reconcile()
        assert resends(env.server.requests) == FAILURES_IN_A_ROW
        assert "503" in (env.reconciliation("mc").last_error or "")
        assert env.reconciliation("mc").failures == 0, "the provider did its part"

        env.gate.open()
        env.make_runs_due()
        env.reconcile()

        env.assert_everything_arrived_once(play)
        assert [failure.state for failure in env.failures("mc")] == ["recovered"] * failed
        assert env.reconciliation("mc").last_error is None

    def test_of_failed_resends_makes_nothing_more_to_resend(self, env: ProviderEnv) -> None:
        """The provider lists every attempt of ours that failed as well."""
        mailchannels(env).after_resend = AfterResend.ADDED
        for slug in ("mc", "ark"):
            play, account = env.make_play(slug, count=2), env.accounts[slug]
            env.gate.shut(503)
            post.send(play.postings[:2], account.dialect, env.url(slug), connections=1, log=account.log)
        for _ in range(3):
            env.reconcile()
            env.make_runs_due()
        assert len(env.failures("mc")) == 2
        assert len(env.failures("ark")) == 2

    def test_that_ark_made_up_for_by_itself_leaves_nothing_to_be_filled(self, env: ProviderEnv) -> None:
        play = env.make_play("ark")
        env.send_during_outage("ark", play)
        ark(env).retry()
        env.work()
        env.reconcile()
        env.assert_everything_arrived_once(play)
        assert env.failure_states("ark") == {"recovered"}
        assert {failure.new_events for failure in env.failures("ark")} == {0}


def resends(requests: Mapping[str, int]) -> int:
    return sum(count for path, count in requests.items() if path.endswith(("/resend", "/replay")))


class TestTheProvidersApi:
    @pytest.mark.parametrize(
        "fault", [faults.lost(), faults.cut_off(), faults.truncated(), faults.failing(500), faults.rate_limited(1)]
    )
    @pytest.mark.parametrize("to", ["GET /webhook-batch", "/resend"])
    def test_that_fails_once_loses_and_doubles_nothing(self, env: ProviderEnv, fault: Fault, to: str) -> None:
        play = env.make_play("mc")
        failed = env.send_during_outage("mc", play)
        mailchannels(env).faults.add(fault, to=to)
        env.reconcile()
        env.assert_everything_arrived_once(play)
        assert env.failure_states("mc") == {"recovered"}
        assert len(env.reconciled_receipt_ids()) == failed, "also that whose answer was lost, and that was sent twice"

    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_that_fails_for_long_is_called_at_growing_intervals(self, env: ProviderEnv, slug: str) -> None:
        play = env.make_play(slug)
        env.send_during_outage(slug, play)
        env.accounts[slug].faults.add(faults.failing(503), calls=1000)
        waits = []
        for failures in (1, 2, 3):
            env.reconcile()
            standing = env.reconciliation(slug)
            assert standing.failures == failures
            assert "503" in (standing.last_error or "")
            waits.append(standing.next_at - datetime.now(UTC))
            env.make_runs_due()
        assert waits == sorted(waits)
        assert waits[2] > timedelta(minutes=5)
        env.accounts[slug].faults.clear()
        env.reconcile()
        env.assert_everything_arrived_once(play)
        assert env.reconciliation(slug).failures == 0

    def test_that_asks_for_patience_gets_it(self, env: ProviderEnv) -> None:
        play = env.make_play("mc")
        env.send_during_outage("mc", play)
        mailchannels(env).faults.add(faults.rate_limited(3600), to="/resend")
        env.reconcile()
        standing = env.reconciliation("mc")
        assert standing.next_at > datetime.now(UTC) + timedelta(minutes=55)
        assert {failure.attempts for failure in env.failures("mc")} == {0}, "an attempt not made is not charged"
        env.make_runs_due()
        env.reconcile()
        env.assert_everything_arrived_once(play)

    def test_that_does_not_take_the_key_is_said_so(self, env: ProviderEnv) -> None:
        env.system.execute(
            "UPDATE sources SET credentials = %(sealed)s WHERE slug = 'mc'",
            sealed=env.system.ctx.vault.seal({**mailchannels(env).dialect.credentials(), "api_key": "wrong"}),
        )
        env.reconcile()
        assert "`api_key` of the source mc" in (env.reconciliation("mc").last_error or "")

    def test_that_has_a_batch_no_more_is_not_asked_for_it_again(self, env: ProviderEnv) -> None:
        env.send_during_outage("mc", env.make_play("mc"))
        mailchannels(env).faults.add(Fault(status=404), to="/resend")
        env.reconcile()
        (lost,) = [failure for failure in env.failures("mc") if failure.state == "given_up"]
        assert "no longer" in (lost.last_error or "")
        assert env.failure_states("mc") == {"given_up", "recovered"}

    def test_may_list_more_than_a_page_that_grows_meanwhile(self, env: ProviderEnv) -> None:
        account = mailchannels(env)
        body = b'[{"customer_handle": "acmeco", "event": "delivered", "timestamp": 1767225600}]'

        def fail(count: int) -> None:
            for _ in range(count):
                account.log.record(
                    url=env.url("mc"),
                    request=Signed({}, body),
                    events=1,
                    created_at=datetime.now(UTC),
                    exchange=Exchange(status=None, body=b"", seconds=0.0),
                )

        fail(1100)
        account.faults.add(faults.interlude(lambda: fail(30)), calls=2, to="GET /webhook-batch")
        env.gate.shut(503)
        env.reconcile()
        env.make_runs_due()
        env.reconcile()
        assert len(env.failures("mc")) == 1160

    def test_is_asked_for_our_deliveries_only(self, env: ProviderEnv) -> None:
        play, account = env.make_play("mc"), mailchannels(env)
        for url in (f"{env.gate.url}/webhooks/other", f"{env.gate.url}/elsewhere"):
            account.enrol(url)
            env.gate.shut(503)
            post.send(play.postings[:2], account.dialect, url, connections=1, log=account.log)
        env.gate.open()
        env.reconcile()
        assert env.failures("mc") == []
        assert resends(env.server.requests) == 0

    def test_is_asked_by_the_url_that_the_operator_says_is_ours(self, env: ProviderEnv) -> None:
        url = f"{env.gate.url}/through/a/proxy"
        env.system.execute(
            "UPDATE sources SET settings = settings || jsonb_build_object('webhook_url', %(url)s::text)", url=url
        )
        play, account = env.make_play("mc"), mailchannels(env)
        account.enrol(url)
        env.gate.shut(503)
        post.send(play.postings[:2], account.dialect, url, connections=1, log=account.log)
        env.reconcile()
        assert len(env.failures("mc")) == 2


class TestARun:
    def test_that_dies_between_two_resends_is_gone_on_with(self, env: ProviderEnv) -> None:
        play = env.make_play("mc")
        failed = env.send_during_outage("mc", play)
        with pytest.raises(KilledError):
            run(env, on_progress=dies_after(2)).perform()
        assert resends(env.server.requests) == 2
        env.reconcile()
        assert resends(env.server.requests) == 2, "its lease still holds"

        env.make_runs_due()
        env.reconcile()

        env.assert_everything_arrived_once(play)
        assert env.failure_states("mc") == {"recovered"}
        assert len(env.reconciled_receipt_ids()) == failed

    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_that_dies_while_a_resend_is_under_way_does_not_make_it_forgotten(
        self, env: ProviderEnv, slug: str
    ) -> None:
        """The receipt arrived after the worker that requested it had died: resent, it is only a repetition."""
        play = env.make_play(slug)
        failed = env.send_during_outage(slug, play)
        dying = run(env, slug=slug)
        dying.client = cast("ProviderApi", Dying(dying.client))
        with pytest.raises(KilledError):
            dying.perform()
        env.work()
        assert env.reconciled_receipt_ids() == set()

        env.make_runs_due()
        env.reconcile()

        env.assert_everything_arrived_once(play)
        assert len(env.reconciled_receipt_ids()) == failed
        assert all(failure.new_events for failure in env.failures(slug))

    def test_of_a_source_is_one_at_a_time(self, env: ProviderEnv) -> None:
        env.send_during_outage("mc", env.make_play("mc"))
        first = run(env)
        with env.system.ctx.engine.begin() as connection:
            again = reconciliations.claim(connection, env.sources["mc"].id, token=uuid4(), lease_seconds=LEASE_SECONDS)
        assert again is None
        reconcile.reconcile_due(env.system.add_worker())
        assert resends(env.server.requests) == 0
        assert first.perform().recovered

    def test_that_was_taken_over_writes_nothing_more(self, env: ProviderEnv) -> None:
        env.send_during_outage("mc", env.make_play("mc"))
        late = run(env)
        env.make_runs_due()
        run(env)
        with pytest.raises(LeaseLostError):
            late.perform()
        assert env.failures("mc") == []
        assert resends(env.server.requests) == 0

    def test_holds_its_source_while_it_waits_between_two_tries_of_a_call(self, env: ProviderEnv) -> None:
        patient, left = run(env), []

        def wait(_seconds: float) -> None:
            left.append(env.system.rows("SELECT lease_until > now() + interval '90 s' FROM reconciliations")[0][0])

        sleep = sleep_and_renew(patient.engine, patient.lease, wait)
        patient.client = provider_api.open_client(patient.source, sleep=sleep)
        mailchannels(env).faults.add(faults.failing(), calls=4)
        env.system.execute("UPDATE reconciliations SET lease_until = now() + interval '1 s'")
        patient.perform()
        assert left == [True] * 4

    def test_stops_when_another_run_took_over_while_it_waited(self, env: ProviderEnv) -> None:
        patient = run(env)
        patient.client = provider_api.open_client(patient.source, sleep=sleep_and_renew(patient.engine, patient.lease))
        mailchannels(env).faults.add(faults.failing(), calls=4)
        env.make_runs_due()
        run(env)
        with pytest.raises(LeaseLostError):
            patient.perform()
        assert sum(env.server.requests.values()) == 1

    def test_whose_time_is_over_goes_on_the_next_time(self, env: ProviderEnv) -> None:
        play = env.make_play("mc")
        env.send_during_outage("mc", play)
        done = run(env, Orders(max_seconds=0)).perform()
        assert not done.finished
        assert env.reconciliation("mc").next_at <= datetime.now(UTC)
        env.reconcile()
        env.assert_everything_arrived_once(play)

    def test_looks_a_second_time_at_what_failed_late(self, env: ProviderEnv) -> None:
        """A delivery can be known to have failed long after it was begun."""
        env.reconcile()
        until = env.reconciliation("mc").reconciled_until
        assert until is not None
        mailchannels(env).log.record(
            url=env.url("mc"),
            request=Signed({}, b"[]"),
            events=0,
            created_at=until - timedelta(hours=2),
            exchange=Exchange(status=504, body=b"", seconds=30.0),
        )
        env.make_runs_due()
        env.reconcile()
        assert len(env.failures("mc")) == 1

    def test_that_a_person_bounded_leaves_the_rest_for_the_next(self, env: ProviderEnv) -> None:
        play = env.make_play("mc")
        env.send_during_outage("mc", play)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        run(env, Orders(since=tomorrow, until=tomorrow + timedelta(days=1))).perform()
        assert env.reconciliation("mc").reconciled_until is None
        env.make_runs_due()
        env.reconcile()
        env.assert_everything_arrived_once(play)

    def test_with_an_end_in_the_future_does_not_hide_later_failures(self, env: ProviderEnv) -> None:
        env.reconcile()
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        env.make_runs_due()
        run(env, Orders(until=tomorrow, due_only=False)).perform()
        reconciled_until = env.reconciliation("mc").reconciled_until
        assert reconciled_until is not None
        assert reconciled_until <= datetime.now(UTC)
        play = env.make_play("mc")
        env.send_during_outage("mc", play)
        env.make_runs_due()
        env.reconcile()
        env.assert_everything_arrived_once(play)

    def test_looks_for_what_failed_although_the_future_is_said_to_be_listed(self, env: ProviderEnv) -> None:
        env.reconcile()
        play = env.make_play("mc")
        env.send_during_outage("mc", play)
        env.make_runs_due()
        env.system.execute("UPDATE reconciliations SET reconciled_until = now() + interval '70 years'")
        env.reconcile()
        env.assert_everything_arrived_once(play)
        reconciled_until = env.reconciliation("mc").reconciled_until
        assert reconciled_until is not None
        assert reconciled_until <= datetime.now(UTC)

    def test_notes_whether_the_provider_posts_to_us_and_its_test_arrives(self, env: ProviderEnv) -> None:
        env.send_during_outage("mc", env.make_play("mc"))
        env.reconcile()
        standing = env.reconciliation("mc")
        assert (standing.enrolled, standing.validated) == (True, True)
        assert standing.webhooks == [{"url": env.url("mc"), "enabled": True, "ours": True}]
        assert env.reconciliation("ark").enrolled is True
        assert env.reconciliation("ark").validated is None, "its test would be taken for a message"

    def test_of_an_api_without_a_test_has_its_webhooks_listed_only(self, env: ProviderEnv) -> None:
        env.send_during_outage("mc", env.make_play("mc"))
        source = replace(env.sources["mc"], provider=replace(env.sources["mc"].provider, sends_tests=False))
        env.sources["mc"] = source
        assert run(env).perform().new
        assert count_validations(env) == 0
        assert (env.reconciliation("mc").enrolled, env.reconciliation("mc").validated) == (True, None)

    def test_has_a_test_made_again_that_did_not_arrive_but_not_at_once(self, env: ProviderEnv) -> None:
        env.send_during_outage("mc", env.make_play("mc"))
        env.gate.shut(503)
        env.reconcile()
        env.gate.open()
        env.make_runs_due()
        env.reconcile()
        assert (env.reconciliation("mc").validated, count_validations(env)) == (False, 1), (
            "the last one is not long ago"
        )
        env.make_runs_due()
        env.system.execute("UPDATE reconciliations SET validated_at = validated_at - interval '2 hours'")
        env.reconcile()
        assert (env.reconciliation("mc").validated, count_validations(env)) == (True, 2)


class TestASource:
    def test_without_a_key_to_the_api_is_left_alone(self, env: ProviderEnv) -> None:
        credentials = {**mailchannels(env).dialect.credentials()}
        del credentials["api_key"]
        env.system.execute(
            "UPDATE sources SET credentials = %(sealed)s WHERE slug = 'mc'",
            sealed=env.system.ctx.vault.seal(credentials),
        )
        env.reconcile()
        assert env.reconciliation("mc").last_error is None
        assert not [path for path in env.server.requests if path.startswith("/mc/tx/v1/webhook-batch")]

    def test_that_cannot_be_used_says_why(self, env: ProviderEnv) -> None:
        env.system.execute("UPDATE sources SET credentials = 'nonsense' WHERE slug = 'mc'")
        env.reconcile()
        assert "TIDINGS_SECRET_KEYS" in (env.reconciliation("mc").last_error or "")
        assert env.reconciliation("ark").last_finished_at is not None, "the others are not held up"

    def test_that_was_removed_is_not_reconciled(self, env: ProviderEnv) -> None:
        env.system.execute("UPDATE sources SET deleted_at = now() WHERE slug = 'mc'")
        env.send_during_outage("mc", env.make_play("mc"))
        env.reconcile()
        assert not [path for path in env.server.requests if path.startswith("/mc/tx/v1/webhook-batch")]


class TestWhatArrives:
    def test_under_an_unknown_key_is_counted_when_it_has_been_verified(self, env: ProviderEnv) -> None:
        play, account = env.make_play("mc"), mailchannels(env)
        env.gate.shut(503)
        post.send(play.postings[:1], account.dialect, env.url("mc"), connections=1, log=account.log)
        env.gate.open()
        account.dialect.rotate()
        env.reconcile()
        (failure,) = env.failures("mc")
        assert (failure.state, failure.new_events) == ("recovered", None)

        verification.verify_due(env.system.ctx)
        env.work()

        (failure,) = env.failures("mc")
        assert failure.state == "recovered"
        assert failure.new_events == play.postings[0].events

    def test_and_cannot_be_processed_is_not_recovered(self, env: ProviderEnv) -> None:
        account = mailchannels(env)
        account.log.record(
            url=env.url("mc"),
            request=Signed({}, b'{"no": "array"}'),
            events=1,
            created_at=datetime.now(UTC),
            exchange=Exchange(status=503, body=b"", seconds=0.1),
        )
        env.reconcile()
        (failure,) = env.failures("mc")
        # Its contents do not identify it, so it counts as a repetition; it is listed as dead.
        assert failure.state == "recovered"
        assert env.system.rows("SELECT state FROM parked_receipts") == [("dead",)]


def run(
    env: ProviderEnv,
    orders: Orders | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    slug: str = "mc",
) -> Run:
    """A run that has begun."""
    source, engine = env.sources[slug], env.system.ctx.engine
    with engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        lease = reconciliations.claim(connection, source.id, token=uuid4(), lease_seconds=LEASE_SECONDS)
    assert lease is not None
    return Run(
        engine=engine,
        source=source,
        client=provider_api.open_client(source),
        lease=lease,
        orders=orders or Orders(),
        on_progress=on_progress or (lambda _: None),
        sleep=lambda _: None,
    )


def count_validations(env: ProviderEnv) -> int:
    return sum(count for path, count in env.server.requests.items() if path.endswith("/webhook/validate"))


def dies_after(count: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.resent == count:
            raise KilledError

    return tell


class KilledError(BaseException):
    """Simulates SIGKILL: no cleanup runs."""


class Dying:
    """A client whose process is killed when the provider has done what it was asked for."""

    def __init__(self, client: ProviderApi) -> None:
        self._client = client

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    def resend(self, delivery: FailedDelivery) -> ResendResult:
        self._client.resend(delivery)
        raise KilledError

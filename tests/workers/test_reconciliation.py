"""What providers could not deliver is asked for and comes in: once, marked, and whatever goes wrong meanwhile."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

import pytest

from shared.providers.api.base import FailedDelivery, ProviderApi, ResendResult
from shared.reconciliation import store as reconciliations
from shared.reconciliation.policy import FAILURES_IN_A_ROW
from shared.reconciliation.run import LEASE_SECONDS, Orders, Progress, Run, TakenOverError, holding
from shared.sources import provider_api
from simulator import post
from simulator.connection import Exchange
from simulator.providers.api import faults
from simulator.providers.api.faults import Fault
from simulator.providers.ark.api import ArkAccount
from simulator.providers.base import Signed
from simulator.providers.mailchannels.api import AfterResend, MailChannelsAccount
from tests.management import scene as scenes
from tests.management.scene import Scene
from workers import reconcile, verification


@pytest.fixture
def scene(database_url: str) -> Iterator[Scene]:
    with scenes.opened(database_url) as opened:
        yield opened


def mailchannels(scene: Scene) -> MailChannelsAccount:
    account = scene.accounts["mc"]
    assert isinstance(account, MailChannelsAccount)
    return account


def ark(scene: Scene) -> ArkAccount:
    account = scene.accounts["ark"]
    assert isinstance(account, ArkAccount)
    return account


class TestAnOutage:
    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_is_made_up_for_and_what_comes_late_is_marked(self, scene: Scene, slug: str) -> None:
        play = scene.play(slug)
        failed = scene.suffer(slug, play)
        assert failed > FAILURES_IN_A_ROW
        scene.work()
        by_itself = scene.receipts()

        scene.reconcile()

        scene.everything_arrived_once(play)
        found = scene.failures(slug)
        assert [failure.state for failure in found] == ["recovered"] * failed
        assert {failure.receipt_id for failure in found} == scene.marked()
        assert len(scene.marked()) == failed
        assert not scene.marked() & by_itself
        (marked,) = scene.workshop.rows(
            "SELECT count(*) FROM events JOIN reconciled_receipts AS r ON r.receipt_id = events.receipt_id"
        )
        assert sum(failure.new_events or 0 for failure in found) == marked[0]

    @pytest.mark.parametrize("afterwards", AfterResend)
    def test_is_made_up_for_once_whatever_the_provider_lists_afterwards(
        self, scene: Scene, afterwards: AfterResend
    ) -> None:
        mailchannels(scene).after_resend = afterwards
        play = scene.play("mc")
        failed = scene.suffer("mc", play)
        scene.reconcile()
        asked = scene.server.requests

        scene.let_time_pass()
        scene.reconcile()

        scene.everything_arrived_once(play)
        assert scene.states("mc") == {"recovered"}
        assert len(scene.failures("mc")) == failed
        assert resends(scene.server.requests) == resends(asked) == failed

    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_that_lost_only_the_answers_lost_nothing(self, scene: Scene, slug: str) -> None:
        play, account = scene.play(slug), scene.accounts[slug]
        scene.gate.mute()
        post.send(play.postings, account.dialect, scene.url(slug), connections=1, log=account.log)
        scene.gate.open()
        scene.work()
        assert len(account.log.failed()) == len(play.postings)

        scene.reconcile()

        scene.everything_arrived_once(play)
        assert scene.states(slug) == {"recovered"}
        assert {failure.new_events for failure in scene.failures(slug)} == {0}

    def test_that_still_lasts_stops_the_run_and_is_made_up_for_when_it_is_over(self, scene: Scene) -> None:
        play = scene.play("mc")
        failed = scene.suffer("mc", play)
        scene.gate.shut(503)
        scene.reconcile()
        assert resends(scene.server.requests) == FAILURES_IN_A_ROW
        assert "503" in (scene.standing("mc").last_error or "")
        assert scene.standing("mc").failures == 0, "the provider did its part"

        scene.gate.open()
        scene.let_time_pass()
        scene.reconcile()

        scene.everything_arrived_once(play)
        assert [failure.state for failure in scene.failures("mc")] == ["recovered"] * failed
        assert scene.standing("mc").last_error is None

    def test_of_failed_resends_makes_nothing_more_to_resend(self, scene: Scene) -> None:
        """The provider lists every attempt of ours that failed as well."""
        mailchannels(scene).after_resend = AfterResend.ADDED
        for slug in ("mc", "ark"):
            play, account = scene.play(slug, count=2), scene.accounts[slug]
            scene.gate.shut(503)
            post.send(play.postings[:2], account.dialect, scene.url(slug), connections=1, log=account.log)
        for _ in range(3):
            scene.reconcile()
            scene.let_time_pass()
        assert len(scene.failures("mc")) == 2
        assert len(scene.failures("ark")) == 2

    def test_that_ark_made_up_for_by_itself_leaves_nothing_to_be_filled(self, scene: Scene) -> None:
        play = scene.play("ark")
        scene.suffer("ark", play)
        ark(scene).retry()
        scene.work()
        scene.reconcile()
        scene.everything_arrived_once(play)
        assert scene.states("ark") == {"recovered"}
        assert {failure.new_events for failure in scene.failures("ark")} == {0}


def resends(requests: Mapping[str, int]) -> int:
    return sum(count for path, count in requests.items() if path.endswith(("/resend", "/replay")))


class TestTheProvidersApi:
    @pytest.mark.parametrize(
        "fault", [faults.lost(), faults.cut_off(), faults.truncated(), faults.failing(500), faults.rate_limited(1)]
    )
    @pytest.mark.parametrize("to", ["GET /webhook-batch", "/resend"])
    def test_may_stumble(self, scene: Scene, fault: Fault, to: str) -> None:
        play = scene.play("mc")
        failed = scene.suffer("mc", play)
        mailchannels(scene).faults.add(fault, to=to)
        scene.reconcile()
        scene.everything_arrived_once(play)
        assert scene.states("mc") == {"recovered"}
        assert len(scene.marked()) == failed, "also that whose answer was lost, and that was sent twice"

    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_that_fails_for_long_is_asked_again_less_and_less_often(self, scene: Scene, slug: str) -> None:
        play = scene.play(slug)
        scene.suffer(slug, play)
        scene.accounts[slug].faults.add(faults.failing(503), calls=1000)
        waits = []
        for failures in (1, 2, 3):
            scene.reconcile()
            standing = scene.standing(slug)
            assert standing.failures == failures
            assert "503" in (standing.last_error or "")
            waits.append(standing.next_at - datetime.now(UTC))
            scene.let_time_pass()
        assert waits == sorted(waits)
        assert waits[2] > timedelta(minutes=5)
        scene.accounts[slug].faults.clear()
        scene.reconcile()
        scene.everything_arrived_once(play)
        assert scene.standing(slug).failures == 0

    def test_that_asks_for_patience_gets_it(self, scene: Scene) -> None:
        play = scene.play("mc")
        scene.suffer("mc", play)
        mailchannels(scene).faults.add(faults.rate_limited(3600), to="/resend")
        scene.reconcile()
        standing = scene.standing("mc")
        assert standing.next_at > datetime.now(UTC) + timedelta(minutes=55)
        assert {failure.attempts for failure in scene.failures("mc")} == {0}, "an attempt not made is not charged"
        scene.let_time_pass()
        scene.reconcile()
        scene.everything_arrived_once(play)

    def test_that_does_not_take_the_key_is_said_so(self, scene: Scene) -> None:
        scene.workshop.run(
            "UPDATE sources SET credentials = %(sealed)s WHERE slug = 'mc'",
            sealed=scene.workshop.ctx.vault.seal({**mailchannels(scene).dialect.credentials(), "api_key": "wrong"}),
        )
        scene.reconcile()
        assert "`api_key` of the source mc" in (scene.standing("mc").last_error or "")

    def test_that_has_a_batch_no_more_is_not_asked_for_it_again(self, scene: Scene) -> None:
        scene.suffer("mc", scene.play("mc"))
        mailchannels(scene).faults.add(Fault(status=404), to="/resend")
        scene.reconcile()
        (lost,) = [failure for failure in scene.failures("mc") if failure.state == "given_up"]
        assert "no more" in (lost.last_error or "")
        assert scene.states("mc") == {"given_up", "recovered"}

    def test_may_list_more_than_a_page_that_grows_meanwhile(self, scene: Scene) -> None:
        account = mailchannels(scene)
        body = b'[{"customer_handle": "acmeco", "event": "delivered", "timestamp": 1767225600}]'

        def fail(count: int) -> None:
            for _ in range(count):
                account.log.record(
                    url=scene.url("mc"),
                    request=Signed({}, body),
                    events=1,
                    created_at=datetime.now(UTC),
                    exchange=Exchange(status=None, body=b"", seconds=0.0),
                )

        fail(1100)
        account.faults.add(faults.interlude(lambda: fail(30)), calls=2, to="GET /webhook-batch")
        scene.gate.shut(503)
        scene.reconcile()
        scene.let_time_pass()
        scene.reconcile()
        assert len(scene.failures("mc")) == 1160

    def test_is_asked_for_what_is_ours_only(self, scene: Scene) -> None:
        play, account = scene.play("mc"), mailchannels(scene)
        for url in (f"{scene.gate.url}/webhooks/other", f"{scene.gate.url}/elsewhere"):
            account.enrol(url)
            scene.gate.shut(503)
            post.send(play.postings[:2], account.dialect, url, connections=1, log=account.log)
        scene.gate.open()
        scene.reconcile()
        assert scene.failures("mc") == []
        assert resends(scene.server.requests) == 0

    def test_is_asked_by_the_url_that_the_operator_says_is_ours(self, scene: Scene) -> None:
        url = f"{scene.gate.url}/through/a/proxy"
        scene.workshop.run(
            "UPDATE sources SET settings = settings || jsonb_build_object('webhook_url', %(url)s::text)", url=url
        )
        play, account = scene.play("mc"), mailchannels(scene)
        account.enrol(url)
        scene.gate.shut(503)
        post.send(play.postings[:2], account.dialect, url, connections=1, log=account.log)
        scene.reconcile()
        assert len(scene.failures("mc")) == 2


class TestARun:
    def test_that_dies_between_two_resends_is_gone_on_with(self, scene: Scene) -> None:
        play = scene.play("mc")
        failed = scene.suffer("mc", play)
        with pytest.raises(KilledError):
            run(scene, tell=dies_after(2)).perform()
        assert resends(scene.server.requests) == 2
        scene.reconcile()
        assert resends(scene.server.requests) == 2, "its lease still holds"

        scene.let_time_pass()
        scene.reconcile()

        scene.everything_arrived_once(play)
        assert scene.states("mc") == {"recovered"}
        assert len(scene.marked()) == failed

    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_that_dies_while_a_resend_is_under_way_does_not_make_it_forgotten(self, scene: Scene, slug: str) -> None:
        """The receipt came when whoever had asked for it was gone: sent again, it is only a repetition."""
        play = scene.play(slug)
        failed = scene.suffer(slug, play)
        dying = run(scene, slug=slug)
        dying.client = cast("ProviderApi", Dying(dying.client))
        with pytest.raises(KilledError):
            dying.perform()
        scene.work()
        assert scene.marked() == set()

        scene.let_time_pass()
        scene.reconcile()

        scene.everything_arrived_once(play)
        assert len(scene.marked()) == failed
        assert all(failure.new_events for failure in scene.failures(slug))

    def test_of_a_source_is_one_at_a_time(self, scene: Scene) -> None:
        scene.suffer("mc", scene.play("mc"))
        first = run(scene)
        with scene.workshop.ctx.engine.begin() as connection:
            again = reconciliations.claim(
                connection, scene.sources["mc"].id, token=uuid4(), lease_seconds=LEASE_SECONDS
            )
        assert again is None
        reconcile.reconcile_due(scene.workshop.another_rim())
        assert resends(scene.server.requests) == 0
        assert first.perform().recovered

    def test_that_was_taken_over_writes_nothing_more(self, scene: Scene) -> None:
        scene.suffer("mc", scene.play("mc"))
        late = run(scene)
        scene.let_time_pass()
        run(scene)
        with pytest.raises(TakenOverError):
            late.perform()
        assert scene.failures("mc") == []
        assert resends(scene.server.requests) == 0

    def test_holds_its_source_while_it_waits_between_two_tries_of_a_call(self, scene: Scene) -> None:
        patient, left = run(scene), []

        def wait(_seconds: float) -> None:
            left.append(scene.workshop.rows("SELECT lease_until > now() + interval '90 s' FROM reconciliations")[0][0])

        sleep = holding(patient.engine, patient.lease, wait)
        patient.client = provider_api.open_client(patient.source, sleep=sleep)
        mailchannels(scene).faults.add(faults.failing(), calls=4)
        scene.workshop.run("UPDATE reconciliations SET lease_until = now() + interval '1 s'")
        patient.perform()
        assert left == [True] * 4

    def test_gives_way_to_whoever_took_over_while_it_waited(self, scene: Scene) -> None:
        patient = run(scene)
        patient.client = provider_api.open_client(patient.source, sleep=holding(patient.engine, patient.lease))
        mailchannels(scene).faults.add(faults.failing(), calls=4)
        scene.let_time_pass()
        run(scene)
        with pytest.raises(TakenOverError):
            patient.perform()
        assert sum(scene.server.requests.values()) == 1

    def test_whose_time_is_over_goes_on_the_next_time(self, scene: Scene) -> None:
        play = scene.play("mc")
        scene.suffer("mc", play)
        done = run(scene, Orders(longest_seconds=0)).perform()
        assert not done.finished
        assert scene.standing("mc").next_at <= datetime.now(UTC)
        scene.reconcile()
        scene.everything_arrived_once(play)

    def test_looks_a_second_time_at_what_failed_late(self, scene: Scene) -> None:
        """A delivery can be known to have failed long after it was begun."""
        scene.reconcile()
        until = scene.standing("mc").reconciled_until
        assert until is not None
        mailchannels(scene).log.record(
            url=scene.url("mc"),
            request=Signed({}, b"[]"),
            events=0,
            created_at=until - timedelta(hours=2),
            exchange=Exchange(status=504, body=b"", seconds=30.0),
        )
        scene.let_time_pass()
        scene.reconcile()
        assert len(scene.failures("mc")) == 1

    def test_that_a_person_bounded_leaves_the_rest_for_the_next(self, scene: Scene) -> None:
        play = scene.play("mc")
        scene.suffer("mc", play)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        run(scene, Orders(since=tomorrow, until=tomorrow + timedelta(days=1))).perform()
        assert scene.standing("mc").reconciled_until is None
        scene.let_time_pass()
        scene.reconcile()
        scene.everything_arrived_once(play)

    def test_that_a_person_bounded_to_a_later_time_blinds_nobody_until_then(self, scene: Scene) -> None:
        scene.reconcile()
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        scene.let_time_pass()
        run(scene, Orders(until=tomorrow, due_only=False)).perform()
        reconciled_until = scene.standing("mc").reconciled_until
        assert reconciled_until is not None
        assert reconciled_until <= datetime.now(UTC)
        play = scene.play("mc")
        scene.suffer("mc", play)
        scene.let_time_pass()
        scene.reconcile()
        scene.everything_arrived_once(play)

    def test_looks_for_what_failed_although_the_future_is_said_to_be_listed(self, scene: Scene) -> None:
        scene.reconcile()
        play = scene.play("mc")
        scene.suffer("mc", play)
        scene.let_time_pass()
        scene.workshop.run("UPDATE reconciliations SET reconciled_until = now() + interval '70 years'")
        scene.reconcile()
        scene.everything_arrived_once(play)
        reconciled_until = scene.standing("mc").reconciled_until
        assert reconciled_until is not None
        assert reconciled_until <= datetime.now(UTC)

    def test_notes_whether_the_provider_posts_to_us_and_its_test_arrives(self, scene: Scene) -> None:
        scene.suffer("mc", scene.play("mc"))
        scene.reconcile()
        standing = scene.standing("mc")
        assert (standing.enrolled, standing.validated) == (True, True)
        assert standing.webhooks == [{"url": scene.url("mc"), "enabled": True, "ours": True}]
        assert scene.standing("ark").enrolled is True
        assert scene.standing("ark").validated is None, "its test would be taken for a message"

    def test_has_a_test_made_again_that_did_not_arrive_but_not_at_once(self, scene: Scene) -> None:
        scene.suffer("mc", scene.play("mc"))
        scene.gate.shut(503)
        scene.reconcile()
        scene.gate.open()
        scene.let_time_pass()
        scene.reconcile()
        assert (scene.standing("mc").validated, count_validations(scene)) == (False, 1), "the last one is not long ago"
        scene.let_time_pass()
        scene.workshop.run("UPDATE reconciliations SET validated_at = validated_at - interval '2 hours'")
        scene.reconcile()
        assert (scene.standing("mc").validated, count_validations(scene)) == (True, 2)


class TestASource:
    def test_without_a_key_to_the_api_is_left_alone(self, scene: Scene) -> None:
        credentials = {**mailchannels(scene).dialect.credentials()}
        del credentials["api_key"]
        scene.workshop.run(
            "UPDATE sources SET credentials = %(sealed)s WHERE slug = 'mc'",
            sealed=scene.workshop.ctx.vault.seal(credentials),
        )
        scene.reconcile()
        assert scene.standing("mc").last_error is None
        assert not [path for path in scene.server.requests if path.startswith("/mc/tx/v1/webhook-batch")]

    def test_that_cannot_be_used_says_why(self, scene: Scene) -> None:
        scene.workshop.run("UPDATE sources SET credentials = 'nonsense' WHERE slug = 'mc'")
        scene.reconcile()
        assert "TIDINGS_SECRET_KEYS" in (scene.standing("mc").last_error or "")
        assert scene.standing("ark").last_finished_at is not None, "the others are not held up"

    def test_that_was_removed_is_not_reconciled(self, scene: Scene) -> None:
        scene.workshop.run("UPDATE sources SET deleted_at = now() WHERE slug = 'mc'")
        scene.suffer("mc", scene.play("mc"))
        scene.reconcile()
        assert not [path for path in scene.server.requests if path.startswith("/mc/tx/v1/webhook-batch")]


class TestWhatArrives:
    def test_under_an_unknown_key_is_counted_when_it_has_been_verified(self, scene: Scene) -> None:
        play, account = scene.play("mc"), mailchannels(scene)
        scene.gate.shut(503)
        post.send(play.postings[:1], account.dialect, scene.url("mc"), connections=1, log=account.log)
        scene.gate.open()
        account.dialect.rotate()
        scene.reconcile()
        (failure,) = scene.failures("mc")
        assert (failure.state, failure.new_events) == ("recovered", None)

        verification.verify(scene.workshop.ctx)
        scene.work()

        (failure,) = scene.failures("mc")
        assert failure.state == "recovered"
        assert failure.new_events == play.postings[0].events

    def test_and_cannot_be_processed_is_not_recovered(self, scene: Scene) -> None:
        account = mailchannels(scene)
        account.log.record(
            url=scene.url("mc"),
            request=Signed({}, b'{"no": "array"}'),
            events=1,
            created_at=datetime.now(UTC),
            exchange=Exchange(status=503, body=b"", seconds=0.1),
        )
        scene.reconcile()
        (failure,) = scene.failures("mc")
        # What it is cannot be told from its contents, so it counts as a repetition; it is listed as dead.
        assert failure.state == "recovered"
        assert scene.workshop.rows("SELECT state FROM parked_receipts") == [("dead",)]


def run(
    scene: Scene, orders: Orders | None = None, tell: Callable[[Progress], None] | None = None, slug: str = "mc"
) -> Run:
    """A run that has begun."""
    source, engine = scene.sources[slug], scene.workshop.ctx.engine
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
        tell=tell or (lambda _: None),
        sleep=lambda _: None,
    )


def count_validations(scene: Scene) -> int:
    return sum(count for path, count in scene.server.requests.items() if path.endswith("/webhook/validate"))


def dies_after(count: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.resent == count:
            raise KilledError

    return tell


class KilledError(BaseException):
    """Stands for SIGKILL: nobody gets to tidy up."""


class Dying:
    """A client whose process is killed when the provider has done what it was asked for."""

    def __init__(self, client: ProviderApi) -> None:
        self._client = client

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    def resend(self, delivery: FailedDelivery) -> ResendResult:
        self._client.resend(delivery)
        raise KilledError

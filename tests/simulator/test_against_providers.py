"""The two implementations of each wire format agree: what one signs and writes, the other reads."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from shared.errors import VerificationError
from shared.events.event import Event
from shared.messages import state
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import Provider, WebhookRequest
from shared.vocabulary import EventType, RefusalReason
from simulator.findings import difference
from simulator.keys import PublicKeyForm
from simulator.mail import Message
from simulator.providers.ark.webhooks import Ark, Form
from simulator.providers.base import Dialect, Forgery, Signed
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.providers.postal.webhooks import Postal
from simulator.providers.registry import DIALECTS
from simulator.scenarios import SCENARIOS, Scenario
from simulator.staging import Answer, Expectation, Play, stage
from tests.support.signed_requests import settings_of

NOW = datetime(2026, 3, 2, 8, 15, 4, tzinfo=UTC)

VARIANTS: dict[str, Callable[[], Dialect]] = {
    **DIALECTS,
    **{f"mailchannels with {form} keys": partial(MailChannels, form=form) for form in PublicKeyForm},
    **{f"ark, {form}": partial(Ark, form=form) for form in Form},
    "postal of old": partial(Postal, legacy=True),
}
PLAYABLE = [
    pytest.param(variant, scenario, id=f"{variant}-{scenario.name}")
    for variant, make in VARIANTS.items()
    for scenario in SCENARIOS.values()
    if not scenario.obstacle(DIALECTS[variant.split()[0].strip(",")].TRAITS)
]

REASONS = {
    Forgery.TAMPERED: {RefusalReason.BAD_SIGNATURE, RefusalReason.DIGEST_MISMATCH},
    Forgery.REDIGESTED: {RefusalReason.BAD_SIGNATURE},
    Forgery.STALE: {RefusalReason.STALE},
    Forgery.FUTURE: {RefusalReason.STALE},
    Forgery.WRONG_KEY: {RefusalReason.BAD_SIGNATURE, RefusalReason.BAD_CREDENTIALS},
    Forgery.UNKNOWN_KEY: {RefusalReason.UNKNOWN_KEY, RefusalReason.BAD_CREDENTIALS},
    Forgery.UNSIGNED: {RefusalReason.MISSING_SIGNATURE},
}


def provider_of(dialect: Dialect) -> Provider:
    return PROVIDERS[dialect.NAME]


def request_of(signed: Signed) -> WebhookRequest:
    return WebhookRequest(headers={name.lower(): value for name, value in signed.headers.items()}, body=signed.body)


def fetched(dialect: Dialect) -> dict[str, str]:
    """What workers would have fetched from the key server."""
    document = dialect.key_document({"id": dialect.key_id})
    return dict(provider_of(dialect).read_keys(document, dialect.key_id)) if document else {}


def parsed(dialect: Dialect, play: Play) -> list[Event]:
    """The events that a worker reads. Simulated Ark's account is a tenant's, whose events do not all name it."""
    settings = settings_of(dialect.NAME, events_without_tenant="accept")
    credentials = provider_of(dialect).read_credentials(dialect.credentials(), {}, settings)
    return [event for body in accepted(dialect, play) for event in provider_of(dialect).parse(body, credentials)]


def accepted(dialect: Dialect, play: Play) -> Iterator[bytes]:
    """The bodies that verification lets in, after all keys have been fetched."""
    credentials = provider_of(dialect).read_credentials(
        dialect.credentials(), all_keys(dialect, play), settings_of(dialect.NAME)
    )
    for posting in play.postings:
        signed = posting.request(dialect, NOW)
        reason = refusal(provider_of(dialect), request_of(signed), credentials)
        assert (reason is None) is (posting.answer is Answer.TAKEN), (posting.forgery, reason)
        if reason is None:
            yield signed.body
        elif posting.forgery:
            assert reason in REASONS.get(posting.forgery, {reason})


def refusal(provider: Provider, request: WebhookRequest, credentials: Any) -> RefusalReason | None:
    try:
        provider.verify(request, credentials, NOW)
    except VerificationError as error:
        return error.reason
    return None


def all_keys(dialect: Dialect, play: Play) -> dict[str, str]:
    keys: dict[str, str] = {}
    for key_id in {posting.key_id for posting in play.postings if posting.key_id}:
        document = dialect.key_document({"id": key_id})
        keys |= provider_of(dialect).read_keys(document, key_id) if document else {}
    return keys


def known(events: list[Event], expectation: Expectation) -> dict[str, object] | None:
    """What the events come to for one recipient, by the pure fold."""
    received = [
        event
        for event in events
        if event.recipient in (expectation.recipient, None) and is_about(event, expectation.message)
    ]
    if not received:
        return None
    facts = [fact_of(event, index) for index, event in enumerate(received)]
    folded = state.fold(facts)
    decisive = next(
        event for event, fact in zip(received, facts, strict=True) if folded.claim and fact.key == folded.claim.key
    )
    return {
        "status": folded.status,
        "classification": decisive.classification,
        "opened": folded.opened_at is not None,
        "clicked": folded.clicked_at is not None,
        "complained": folded.complained_at is not None,
        "unsubscribed": folded.unsubscribed,
    }


def fact_of(event: Event, index: int) -> state.Fact:
    return state.Fact(
        key=f"{event.identity}/{event.recipient}" if event.identity else str(index),
        type=event.type,
        # Events that bear no time count as having happened when they arrived, one after the other.
        at=event.occurred_at or NOW + timedelta(milliseconds=index),
    )


def is_about(event: Event, message: Message) -> bool:
    if event.message_key is None:
        return False
    return event.smtp_id == message.smtp_id or message.uuid in (event.provider_message_id, event.request_id)


@pytest.mark.parametrize(("variant", "scenario"), PLAYABLE)
def test_what_a_dialect_plays_is_understood_as_it_was_meant(variant: str, scenario: Scenario) -> None:
    dialect = VARIANTS[variant]()
    play = stage(scenario, dialect, count=60, seed=3, now=NOW)
    events = parsed(dialect, play)
    for expectation in play.expectations:
        assert difference(expectation, known(events, expectation)) is None, expectation
    for stranger in play.strangers:
        assert not [event for event in events if is_about(event, stranger)]
    problems = [event.problem for event in events if event.problem]
    assert all(Forgery.FOREIGN in scenario.forgeries and "account" in problem for problem in problems)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_kind_that_is_sent_is_parsed(name: str) -> None:
    dialect = DIALECTS[name]()
    play = stage(SCENARIOS["mixed"], dialect, count=100, seed=1, now=NOW)
    heard = {event.type for event in parsed(dialect, play)}
    assert heard - {EventType.UNKNOWN} == dialect.TRAITS.speaks


@pytest.mark.parametrize("name", [name for name, make in DIALECTS.items() if make.TRAITS.publishes_keys])
def test_a_new_key_is_unknown_until_it_is_fetched(name: str) -> None:
    dialect = DIALECTS[name]()
    provider = provider_of(dialect)
    scenario = SCENARIOS["unknown-key" if dialect.TRAITS.rotates else "happy"]
    [posting, *_] = stage(scenario, dialect, count=1, seed=1, now=NOW).postings
    request = request_of(posting.request(dialect, NOW))
    with pytest.raises(VerificationError) as error:
        provider.verify(request, provider.read_credentials(dialect.credentials(), {}, settings_of(dialect.NAME)), NOW)
    assert (error.value.reason, error.value.key_id) == (RefusalReason.UNKNOWN_KEY, dialect.key_id)
    provider.verify(
        request, provider.read_credentials(dialect.credentials(), fetched(dialect), settings_of(dialect.NAME)), NOW
    )


@pytest.mark.parametrize("name", ["mailwebhook"])
def test_the_idempotency_key_is_found(name: str) -> None:
    dialect = DIALECTS[name]()
    [posting, *_] = stage(SCENARIOS["happy"], dialect, count=1, seed=1, now=NOW).postings
    signed = posting.request(dialect, NOW)
    assert provider_of(dialect).idempotency_key(request_of(signed)) == signed.headers["X-Idempotency-Key"]

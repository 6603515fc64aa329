"""The adapters agree with django-anymail, which verifies and reads the webhooks of the same providers independently."""

import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import django
import pytest
from anymail.exceptions import AnymailWarning, AnymailWebhookValidationFailure
from anymail.signals import tracking
from anymail.webhooks.brevo import BrevoTrackingWebhookView
from anymail.webhooks.mailersend import MailerSendTrackingWebhookView
from anymail.webhooks.mailgun import MailgunTrackingWebhookView
from anymail.webhooks.mailjet import MailjetTrackingWebhookView
from anymail.webhooks.mailtrap import MailtrapTrackingWebhookView
from anymail.webhooks.mandrill import MandrillCombinedWebhookView
from anymail.webhooks.postmark import PostmarkTrackingWebhookView
from anymail.webhooks.resend import ResendTrackingWebhookView
from anymail.webhooks.sendgrid import SendGridTrackingWebhookView
from anymail.webhooks.sparkpost import SparkPostTrackingWebhookView
from anymail.webhooks.unisender_go import UnisenderGoTrackingWebhookView
from django.conf import settings
from django.test import RequestFactory

from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from simulator.providers.base import Dialect, Forgery, Signed, make_request
from simulator.providers.registry import DIALECTS
from simulator.scenarios import SCENARIOS
from simulator.staging import stage
from tests.support.signed_requests import NOW

Credentials = Mapping[str, Any]


def latest(value: Any) -> str:
    return str(value if isinstance(value, str) else value[-1])


def password(given: Credentials) -> dict[str, Any]:
    return {"basic_auth": [f"{given['username']}:{given['password']}"]}


VIEWS: Mapping[str, tuple[Any, Callable[[Credentials], dict[str, Any]]]] = {
    "postmark": (PostmarkTrackingWebhookView, password),
    "brevo": (BrevoTrackingWebhookView, password),
    "mailjet": (MailjetTrackingWebhookView, password),
    "sparkpost": (SparkPostTrackingWebhookView, password),
    "sendgrid": (
        SendGridTrackingWebhookView,
        lambda given: {"tracking_webhook_verification_key": latest(given["public_key"])},
    ),
    "mailgun": (MailgunTrackingWebhookView, lambda given: {"webhook_signing_key": latest(given["signing_key"])}),
    "mailersend": (MailerSendTrackingWebhookView, lambda given: {"signing_secret": latest(given["signing_secret"])}),
    "mailtrap": (MailtrapTrackingWebhookView, lambda given: {"tracking_secret": latest(given["signing_secret"])}),
    "mandrill": (
        MandrillCombinedWebhookView,
        lambda given: {"webhook_key": latest(given["webhook_key"]), "webhook_url": given["webhook_url"]},
    ),
    "unisender": (UnisenderGoTrackingWebhookView, lambda given: {"api_key": latest(given["api_key"])}),
    # Its signature is checked by the library of Standard Webhooks.
    "resend": (ResendTrackingWebhookView, lambda _: {"basic_auth": []}),
}


@pytest.fixture(scope="module", autouse=True)
def _django() -> None:
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="of no use", USE_TZ=True, ANYMAIL={})
        django.setup()


def receive(name: str, credentials: Credentials, request: Signed) -> list[Any]:
    view, settings_of = VIEWS[name]
    events: list[Any] = []

    def collect(event: Any, **_: Any) -> None:
        events.append(event)

    tracking.connect(collect, weak=False)
    try:
        given = {f"HTTP_{key.upper().replace('-', '_')}": value for key, value in request.headers.items()}
        content_type = request.headers.get("Content-Type", "application/json")
        posted = RequestFactory().post("/anymail/", data=request.body, content_type=content_type, **given)
        with warnings.catch_warnings(action="ignore", category=AnymailWarning):
            view.as_view(**settings_of(credentials))(posted)
    finally:
        tracking.disconnect(collect)
    return events


NEWER_WORDS = {
    ("mandrill", "delivered"), ("brevo", "unsubscribed"), ("resend", "queued"), ("resend", "rejected"),
    ("resend", "failed"),
}  # fmt: skip
"""Events that anymail 15.2 calls unknown."""


def sign_bodies(name: str, played: Dialect, body: bytes) -> list[Signed]:
    """Sign a body; an event at a time for Brevo, because anymail reads no batches of it."""
    bodies = [json.dumps(item).encode() for item in json.loads(body)] if name == "brevo" else [body]
    return [make_request(played, one, NOW) for one in bodies]


@pytest.mark.parametrize("name", VIEWS)
def test_both_verify_and_read_what_the_provider_sends(name: str) -> None:
    played = DIALECTS[name]()
    play = stage(SCENARIOS["mixed"], played, count=20, seed=3, now=NOW)
    credentials = PROVIDERS[name].read_credentials(played.credentials(), {}, SourceSettings())
    genuine = [posting for posting in play.postings if not posting.forgery]
    for request in [one for posting in genuine for one in sign_bodies(name, played, posting.body)]:
        theirs = receive(name, played.credentials(), request)
        ours = PROVIDERS[name].parse(request.body, credentials)
        for one, other in zip(ours, theirs, strict=True):
            expected = "unknown" if (name, one.type) in NEWER_WORDS else one.type
            assert other.event_type == expected
            assert (other.recipient, other.timestamp, other.click_url) == (one.recipient, one.occurred_at, one.url)
            ids = {one.provider_message_id, one.request_id, one.smtp_id, f"<{one.smtp_id}>"}
            assert other.message_id in ids


@pytest.mark.parametrize(
    ("name", "forgery"),
    [(name, forgery) for name in VIEWS if name != "resend" for forgery in sorted(DIALECTS[name].TRAITS.forgeries)],
)
def test_both_refuse_what_is_forged(name: str, forgery: Forgery) -> None:
    if forgery in (Forgery.STALE, Forgery.FUTURE):
        pytest.skip("anymail looks at no time")
    played = DIALECTS[name]()
    body = sign_bodies(name, played, stage(SCENARIOS["happy"], played, count=1, seed=1, now=NOW).postings[0].body)[
        0
    ].body
    forged = played.forge(body, NOW, forgery)
    with pytest.raises(AnymailWebhookValidationFailure):
        receive(name, played.credentials(), forged)

"""Each kind of event of a provider means what its documents say: one file a kind, one row here."""

import json
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.events.bots import Automation
from shared.events.event import Event
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from shared.vocabulary import Classification
from shared.vocabulary import EventType as E
from tests.support.signed_requests import credentials, make_request, read_payloads

C = Classification
MARIA, JONAS = "maria@customer.example", "jonas@customer.example"
SHOP = "https://shop.example/i/12"

KINDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "scaleway": {
        "queued": (E.QUEUED,),
        "delivered": (E.DELIVERED,),
        "deferred": (E.DEFERRED, C.TRANSIENT_FAILURE, "451", "4.7.1"),
        "dropped": (E.BOUNCED, C.MAILBOX_FULL, "552", "5.2.2"),
        "mailbox_not_found": (E.BOUNCED, C.INVALID_RECIPIENT, "550", "5.1.1"),
        "spam": (E.BOUNCED, C.SPAM_CONTENT, "554", "5.7.1"),
        "blocklisted": (E.REJECTED, C.POLICY_REJECTION),
    },
    "ses": {
        "send": (E.SENT,),
        "delivery": (E.DELIVERED,),
        "bounce": (E.BOUNCED, C.INVALID_RECIPIENT, "550", "5.1.1"),
        "suppressed": (E.REJECTED, C.POLICY_REJECTION),
        "complaint": (E.COMPLAINED,),
        "reject": (E.REJECTED, C.SPAM_CONTENT),
        "open": (E.OPENED,),
        "click": (E.CLICKED,),
        "rendering_failure": (E.FAILED, C.POLICY_REJECTION),
        "delay": (E.DEFERRED, C.CONNECTION_ERROR, "421", "4.4.1"),
        "unsubscribed": (E.UNSUBSCRIBED,),
        "envelope": (E.DELIVERED,),
    },
    "sendgrid": {
        "processed": (E.QUEUED,),
        "deferred": (E.DEFERRED, C.TRANSIENT_FAILURE),
        "delivered": (E.DELIVERED,),
        "bounce": (E.BOUNCED, C.INVALID_RECIPIENT, "550", "5.1.1"),
        "blocked": (E.BOUNCED, C.SPAM_BLOCK, "550", "5.7.1"),
        "dropped": (E.REJECTED, C.POLICY_REJECTION),
        "open": (E.OPENED,),
        "machine_open": (E.OPENED,),
        "click": (E.CLICKED,),
        "spamreport": (E.COMPLAINED,),
        "unsubscribe": (E.UNSUBSCRIBED,),
        "group_unsubscribe": (E.UNSUBSCRIBED,),
        "group_resubscribe": (E.SUBSCRIBED,),
    },
    "postmark": {
        "hard_bounce": (E.BOUNCED, C.INVALID_RECIPIENT, "550", "5.1.1"),
        "soft_bounce": (E.BOUNCED, C.MAILBOX_FULL, "452", "4.2.2"),
        "transient": (E.DEFERRED, C.TRANSIENT_FAILURE),
        "spam_notification": (E.COMPLAINED,),
        "autoresponder": (E.AUTORESPONDED,),
        "blocked": (E.REJECTED, C.SPAM_BLOCK),
        "spam_complaint": (E.COMPLAINED,),
        "delivery": (E.DELIVERED,),
        "open": (E.OPENED,),
        "click": (E.CLICKED,),
        "unsubscribed": (E.UNSUBSCRIBED,),
        "resubscribed": (E.SUBSCRIBED,),
    },
    "resend": {
        "scheduled": (E.QUEUED,),
        "sent": (E.SENT,),
        "delivered": (E.DELIVERED,),
        "delivery_delayed": (E.DEFERRED, C.UNCLASSIFIED),
        "complained": (E.COMPLAINED,),
        "opened": (E.OPENED,),
        "clicked": (E.CLICKED,),
        "bounced": (E.BOUNCED, C.INVALID_RECIPIENT, "550", "5.1.1"),
        "bounced_suppressed": (E.BOUNCED, C.POLICY_REJECTION),
        "failed": (E.FAILED, C.POLICY_REJECTION),
        "suppressed": (E.REJECTED, C.POLICY_REJECTION),
    },
    "standardwebhooks": {
        "loops_hard_bounce": (E.BOUNCED, C.UNCLASSIFIED),
        "tidings": (E.DELIVERED,),
        "snake": (E.DEFERRED, C.MAILBOX_FULL, "452", "4.2.2"),
    },
    "mailgun": {
        "accepted": (E.QUEUED,),
        "delivered": (E.DELIVERED,),
        "permanent": (E.BOUNCED, C.POLICY_REJECTION),
        "bounced": (E.BOUNCED, C.INVALID_RECIPIENT, "550", "5.1.1"),
        "temporary": (E.DEFERRED, C.MAILBOX_FULL, "452", "4.2.2"),
        "without_status": (E.DEFERRED, C.UNCLASSIFIED),
        "rejected": (E.REJECTED, C.UNCLASSIFIED),
        "opened": (E.OPENED,),
        "opened_by_bot": (E.OPENED,),
        "clicked": (E.CLICKED,),
        "unsubscribed": (E.UNSUBSCRIBED,),
        "complained": (E.COMPLAINED,),
    },
}
SEVERAL = {
    ("ses", "bounce_of_two"),
    ("ses", "open_of_two"),
    ("resend", "bounced_of_two"),
    ("resend", "delivered_of_two"),
}
"""Payloads of messages with several recipients, which have tests of their own."""


def parse(provider: str, name: str) -> list[Event]:
    return PROVIDERS[provider].parse(read_payloads(provider)[name], credentials(provider))


@pytest.mark.parametrize(("provider", "name"), [(one, name) for one, kinds in KINDS.items() for name in kinds])
def test_a_kind_means_what_the_documents_say(provider: str, name: str) -> None:
    (event,) = parse(provider, name)
    kind, *rest = KINDS[provider][name]
    classification, *codes = [*rest, None][: max(len(rest), 1)]
    assert (event.type, event.classification, event.recipient) == (kind, classification, MARIA)
    assert event.problem is None
    assert event.occurred_at
    assert event.message_key
    if codes:
        assert (event.smtp_status, event.enhanced_code) == tuple(codes)
    if kind is E.CLICKED:
        assert (event.url, bool(event.ip), bool(event.user_agent)) == (SHOP, True, True)


@pytest.mark.parametrize("provider", KINDS)
def test_every_payload_has_its_row(provider: str) -> None:
    assert set(read_payloads(provider)) == set(KINDS[provider]) | {name for one, name in SEVERAL if one == provider}


@pytest.mark.parametrize("provider", ["ses", "sendgrid", "postmark", "resend", "mailgun"])
def test_all_events_of_a_message_name_it_alike(provider: str) -> None:
    assert len({event.message_key for name in KINDS[provider] for event in parse(provider, name)}) == 1


@pytest.mark.parametrize(
    ("provider", "name", "tag", "metadata"),
    [
        ("ses", "click", "billing", {"team": "billing"}),
        ("sendgrid", "click", "invoices", {"order": "12"}),
        ("postmark", "click", "welcome", {"order": "12"}),
        ("resend", "clicked", "invoices", {"category": "invoices"}),
        ("mailgun", "clicked", "invoices", {"order": "12"}),
    ],
)
def test_tags_and_metadata_are_the_senders(provider: str, name: str, tag: str, metadata: dict[str, str]) -> None:
    (event,) = parse(provider, name)
    assert (event.tag, event.metadata) == (tag, metadata)


@pytest.mark.parametrize(("provider", "name"), [("sendgrid", "machine_open"), ("mailgun", "opened_by_bot")])
def test_a_program_is_flagged_where_the_provider_says_so(provider: str, name: str) -> None:
    (event,) = parse(provider, name)
    assert event.automation is Automation.SCANNER


def test_each_recipient_of_a_bounce_has_its_own_reason() -> None:
    events = parse("ses", "bounce_of_two")
    found = [(event.recipient, event.classification, event.enhanced_code) for event in events]
    assert found == [(MARIA, C.MAILBOX_FULL, "4.2.2"), (JONAS, C.MAILBOX_FULL, "5.2.2")]


def test_an_open_of_a_message_to_several_is_nobodys_alone() -> None:
    (event,) = parse("ses", "open_of_two")
    assert (event.type, event.recipient) == (E.OPENED, None)


def test_a_bounce_of_a_message_to_several_is_of_the_one_that_it_names() -> None:
    (event,) = parse("resend", "bounced_of_two")
    assert (event.type, event.recipient) == (E.BOUNCED, JONAS)


def test_what_happened_to_one_of_several_is_set_aside_if_it_does_not_say_to_whom() -> None:
    (event,) = parse("resend", "delivered_of_two")
    assert (event.type, event.recipient) == (E.UNKNOWN, None)
    assert "does not say which" in (event.problem or "")
    assert event.provider_message_id


def test_an_old_form_of_mailgun_is_read() -> None:
    body = b"event=bounced&recipient=maria%40customer.example&code=550&error=5.1.1+User+unknown&Message-Id=%3Cm1%40x%3E"
    (event,) = PROVIDERS["mailgun"].parse(body + b"&timestamp=1767225600&token=t&signature=s&order=12", None)
    found = (event.type, event.recipient, event.classification, event.smtp_id, event.metadata)
    assert found == (E.BOUNCED, MARIA, C.INVALID_RECIPIENT, "m1@x", {"order": "12"})


def test_a_confirmation_and_the_end_of_a_subscription_are_no_events_of_mail() -> None:
    ses = PROVIDERS["ses"]
    fields = {"MessageId": "1", "TopicArn": "arn:aws:sns:x:1:t", "Message": "text", "Timestamp": "2026-01-01T00:00:00Z"}
    (confirmation,) = ses.parse(json.dumps({"Type": "SubscriptionConfirmation", **fields}).encode(), None)
    assert confirmation.type is E.TEST
    (end,) = ses.parse(json.dumps({"Type": "UnsubscribeConfirmation", **fields}).encode(), None)
    assert "Subscribe again" in (end.problem or "")
    validated = fields | {"Message": "Successfully validated SNS topic for Amazon SES event publishing."}
    (test,) = ses.parse(json.dumps({"Type": "Notification", **validated}).encode(), None)
    assert test.type is E.TEST


def test_the_published_vector_of_standard_webhooks_is_verified() -> None:
    for prefix in ("webhook", "svix"):
        headers = {
            f"{prefix}-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            f"{prefix}-timestamp": "1614265330",
            f"{prefix}-signature": "v1,aaaa v1a,x v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        request = make_request(b'{"test": 2432232314}', headers)
        given = {"secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}
        read = PROVIDERS["resend"].read_credentials(given, {}, SourceSettings())
        PROVIDERS["resend"].verify(request, read, datetime.fromtimestamp(1614265330, UTC))


def test_the_vector_of_sendgrids_library_is_verified() -> None:
    event = {
        "email": "hello@world.com",
        "event": "dropped",
        "reason": "Bounced Address",
        "sg_event_id": "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
        "sg_message_id": "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
        "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
        "timestamp": 1600112492,
    }
    body = json.dumps([event], sort_keys=True, separators=(",", ":")).encode() + b"\r\n"
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0J"
        "uG+luQAbPIqHh89M15TluLtEZtM=",
        "X-Twilio-Email-Event-Webhook-Timestamp": "1600112502",
    }
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8"
        "eNEc6wEA3F+g=="
    )
    assert b64decode(key)
    read = PROVIDERS["sendgrid"].read_credentials({"public_key": key}, {}, SourceSettings())
    PROVIDERS["sendgrid"].verify(make_request(body, headers), read, datetime.now(UTC))
    (found,) = PROVIDERS["sendgrid"].parse(body, read)
    assert (found.message_key, found.type) == ("id:LRzXl_NHStOGhQ4kofSm_A", E.REJECTED)


def test_the_vector_of_mailgun_is_verified() -> None:
    given = {"signing_key": "0123456789abcdef0123456789abcdef"}
    read = PROVIDERS["mailgun"].read_credentials(given, {}, SourceSettings())
    body = read_payloads("mailgun")["delivered"]
    PROVIDERS["mailgun"].verify(make_request(body, {}), read, datetime.now(UTC))

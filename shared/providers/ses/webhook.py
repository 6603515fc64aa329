"""Amazon SES through SNS: event publishing of configuration sets, and the older notifications of identities.

Sources: Amazon's "Contents of event data that SES publishes to SNS", "Notification contents", and the guide of SNS.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from shared.errors import PayloadError
from shared.events.event import Event
from shared.providers.webhooks import payload, sns
from shared.providers.webhooks.base import KeyLookup, SourceSettings, WebhookRequest
from shared.providers.webhooks.translation import at, first, named, pairs, translate
from shared.vocabulary import EventType

EVENTS: Mapping[str, EventType] = {
    "send": EventType.SENT,
    "delivery": EventType.DELIVERED,
    "deliverydelay": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "complaint": EventType.COMPLAINED,
    "reject": EventType.REJECTED,
    "rendering failure": EventType.FAILED,
    "renderingfailure": EventType.FAILED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "subscription": EventType.UNSUBSCRIBED,  # or subscribed, by its preferences
    "received": EventType.INBOUND,
    "amazonsnssubscriptionsucceeded": EventType.TEST,
}
_OBJECTS: Mapping[str, str] = {
    "deliverydelay": "deliveryDelay",
    "rendering failure": "failure",
    "renderingfailure": "failure",
    "received": "receipt",
}
"""The objects whose names are not those of their events."""
_UNSENT = frozenset({"suppressed", "onaccountsuppressionlist"})
"""Subtypes of bounces of mail that SES did not send, because the address is on a suppression list."""

# The region begins with two letters and a dash. So `sns.s3.amazonaws.com` does not match: anybody may own that bucket.
_CERTIFICATE_URL = re.compile(
    r"https://sns\.[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?/SimpleNotificationService-[0-9A-Za-z-]+\.pem"
)


def verify(request: WebhookRequest, credentials: sns.Credentials, now: datetime, /) -> None:
    """Verify the message of SNS by its certificate. Raises VerificationError."""
    sns.verify(request, credentials, now, _CERTIFICATE_URL)


def key_lookup(key_id: str, /) -> KeyLookup | None:
    """Return the URL of the certificate, if it is one of SNS."""
    return sns.lookup(key_id, _CERTIFICATE_URL)


def confirmation_url(request: WebhookRequest, settings: SourceSettings, /) -> str | None:
    """Return the call of SNS that confirms the subscription."""
    return sns.confirmation_url(request, settings, _endpoint)


def _endpoint(region: str) -> str:
    return f"https://sns.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def parse(body: bytes, _credentials: object, /) -> list[Event]:
    """Return the events of a notification, one for each recipient. Raises PayloadError if the body is not an object."""
    return sns.parse(body, _read)


def _read(item: payload.Item, sns_id: str | None) -> list[Event]:
    value = payload.decode_any(item.clean)
    detail = at(value, "detail") if sns_id is None else None  # from a rule of EventBridge
    value = detail if isinstance(detail, dict) and "eventType" in detail else value
    if not isinstance(value, dict):
        raise PayloadError("The notification is not an object")
    try:
        return _translate(item, value, sns_id)
    except PayloadError as error:
        return [payload.refuse(item, str(error))]


def _translate(item: payload.Item, value: Mapping[str, Any], sns_id: str | None) -> list[Event]:
    word = first(value.get("eventType"), value.get("notificationType"))
    key = (payload.read_text(word) or "").lower() if isinstance(word, str) else ""
    kind, mail = named(word, EVENTS), value.get("mail")
    body = value.get(_OBJECTS.get(key, key))
    destination = at(mail, "destination")
    tags = {name: text for name, text in (pairs(at(mail, "tags")) or {}).items() if not name.startswith("ses:")}
    message_id = payload.read_identifier(at(mail, "messageId"))
    occurred_at = first(at(body, "timestamp"), at(mail, "timestamp") if kind is not EventType.UNKNOWN else None)
    cause = _find_cause(key, body)
    if key == "bounce" and (payload.read_text(at(body, "bounceSubType")) or "").lower() in _UNSENT:
        kind = EventType.REJECTED
    elif key == "subscription" and not _is_opted_out(body):
        kind = EventType.SUBSCRIBED
    events: list[Event] = []
    for recipients, own in _list_recipients(kind, body, destination):
        events += translate(
            item,
            kind,
            word=word,
            recipients=recipients,
            identity=sns_id,
            occurred_at=occurred_at,
            message_key=f"id:{message_id}" if message_id else None,
            sender=first(at(mail, "commonHeaders", "from"), at(mail, "source")),
            subject=at(mail, "commonHeaders", "subject"),
            smtp_id=first(at(mail, "commonHeaders", "messageId"), _header(mail, "message-id")),
            provider_message_id=message_id,
            failure=cause,
            enhanced_code=at(own, "status"),
            reason=first(at(own, "diagnosticCode"), *(at(body, name) for name in _REASONS)),
            remote_host=first(at(body, "remoteMtaIp"), at(body, "reportingMTA")),
            url=at(body, "link"),
            ip=at(body, "ipAddress"),
            user_agent=at(body, "userAgent"),
            tags=[text for texts in tags.values() for text in (texts if isinstance(texts, list) else [texts])],
            campaign=_first_of(at(mail, "tags", "ses:configuration-set")),
            metadata={name: _first_of(texts) for name, texts in tags.items()},
            details={
                "cause": cause,
                "action": at(own, "action"),
                **{name: at(body, name) for name in _DETAILS},
                "sending_account": at(mail, "sendingAccountId"),
            },
        )
    return events


_REASONS = ("smtpResponse", "reason", "errorMessage")
_DETAILS = (
    *("feedbackId", "complaintFeedbackType", "complaintSubType", "arrivalDate", "expirationTime", "templateName"),
    *("linkTags", "contactList", "source", "newTopicPreferences", "oldTopicPreferences", "processingTimeMillis"),
)
_LISTS = ("bouncedRecipients", "complainedRecipients", "delayedRecipients")


def _list_recipients(kind: EventType, body: object, destination: object) -> Iterable[tuple[object, object]]:
    """Return the recipients of an event, each with its own object of the event, if it has one."""
    for name in _LISTS:
        listed = at(body, name)
        if isinstance(listed, list) and listed:
            return [
                (entry if isinstance(entry, str) else first(at(entry, "emailAddress"), entry), entry)
                for entry in listed
            ]
    recipients = first(at(body, "recipients"), destination)
    # Opens and clicks name all recipients of the message, so the one who opened it is known only if it has one.
    is_open = kind in (EventType.OPENED, EventType.CLICKED)
    if is_open and isinstance(recipients, list) and len(recipients) > 1:
        return [(None, None)]
    return [(recipients, None)]


def _find_cause(key: str, body: object) -> str | None:
    """Return SES' word for the cause: `permanent/general` of a bounce, `delay/mailboxfull` of a delay."""
    if key == "bounce":
        parts = [at(body, "bounceType"), at(body, "bounceSubType")]
    elif key == "deliverydelay":
        parts = ["delay", at(body, "delayType")]
    else:
        parts = [key or None]
    texts = [text for text in map(payload.read_text, parts) if text]
    return "/".join(texts).lower() or None


def _is_opted_out(body: object) -> bool:
    preferences = at(body, "newTopicPreferences")
    statuses = at(preferences, "topicSubscriptionStatus")
    topics = statuses if isinstance(statuses, list) else []
    is_opted_in = any(at(topic, "subscriptionStatus") == "OptIn" for topic in topics)
    return at(preferences, "unsubscribeAll") is True or not is_opted_in


def _header(mail: object, name: str) -> object:
    headers = at(mail, "headers")
    for header in headers if isinstance(headers, list) else []:
        if (payload.read_text(at(header, "name")) or "").lower() == name:
            return at(header, "value")
    return None


def _first_of(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value

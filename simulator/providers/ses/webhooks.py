"""Amazon SES' events in notifications of SNS, signed by a certificate that is fetched.

Written from the SES guide "Contents of event data that Amazon SES publishes to Amazon SNS" and the SNS guide "Verifying
the signatures of Amazon SNS messages".
"""

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.vocabulary import Classification, EventType
from simulator.keys import RSA_BITS, seed_bytes
from simulator.mail import Happening, Message
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported

_TYPES: Mapping[EventType, str] = {
    EventType.SENT: "Send",
    EventType.DELIVERED: "Delivery",
    EventType.DEFERRED: "DeliveryDelay",
    EventType.BOUNCED: "Bounce",
    EventType.REJECTED: "Reject",
    EventType.FAILED: "Rendering Failure",
    EventType.COMPLAINED: "Complaint",
    EventType.OPENED: "Open",
    EventType.CLICKED: "Click",
    EventType.UNSUBSCRIBED: "Subscription",
}
_SIGNED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SIGNED_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_MALFORMED = ("", "!!!!", "AAA", "\u00e9", "=" * 50)


class Ses:
    """SES with one configuration set, whose topic posts to one subscription."""

    NAME = "ses"
    ARN = "arn:aws:sns:eu-central-1:123456789012:ses-events"
    HOST = "https://sns.eu-central-1.amazonaws.com"
    CERTIFICATES = f"{HOST}/SimpleNotificationService-"
    SUBJECT = "Amazon SES Email Event Notification"
    KEYS_PATH: str | None = "/SimpleNotificationService.pem"
    TRAITS = Traits(
        speaks=frozenset(_TYPES),
        events_per_body=1,
        one_recipient=True,
        nameless=False,
        timed=True,
        explains=False,
        publishes_keys=True,
        rotates=False,
        forgeries=frozenset(
            {Forgery.TAMPERED, Forgery.STALE, Forgery.FUTURE, Forgery.WRONG_KEY, Forgery.MALFORMED, Forgery.UNSIGNED}
        ),
        retry=RetryRule(delays_seconds=(20, 20, 20), statuses=frozenset({0, *range(500, 600)})),
        refused_with_200=True,
    )

    def __init__(self, *, version: str = "2") -> None:
        self._version = version
        self.access_key_id = "AKIAIOSFODNN7EXAMPLE"
        self.secret_access_key = seed_bytes("ses/api", None).hex()[:40]
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate()

    @property
    def key_id(self) -> str:
        """The URL of the certificate that it signs with at present."""
        return next(reversed(self._keys))

    def rotate(self) -> str:
        """Switch to a new certificate."""
        key = rsa.generate_private_key(65537, RSA_BITS)
        # Named by the key: Tidings keeps a certificate by its URL, so a later run with another needs another URL.
        name = f"{key.public_key().public_numbers().n % 2**128:032x}"
        url = f"{self.CERTIFICATES}{name}.pem"
        self._keys[url] = key
        return url

    def credentials(self) -> dict[str, Any]:
        """Return the topic, and the access key of the account where it plays the API."""
        key = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        return {"topic_arns": [self.ARN], **key}

    def key_document(self, query: Mapping[str, str]) -> bytes | None:
        """Return the certificate with this id; without an id, the current one."""
        key = self._keys.get(query.get("id", self.key_id))
        if key is None:
            return None
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the id that the send was answered with."""
        return {"message_id": message.uuid}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return the event that is the message of a notification."""
        if len(happenings) != 1 or happenings[0].kind not in _TYPES or len(happenings[0].recipients) != 1:
            raise unsupported(self.NAME, ", ".join(happening.kind for happening in happenings))
        return json.dumps(_event(happenings[0]), ensure_ascii=False).encode()

    def envelop(self, body: bytes, now: datetime, key_id: str | None = None) -> bytes:
        """Return the notification."""
        return self._notify(body.decode(), now, key_id or self.key_id)

    def confirmation(self, now: datetime) -> bytes:
        """Return the message that asks to confirm the subscription."""
        token = "2336412f37fb687f5d51e6e2425f"  # noqa: S105
        query = f"Action=ConfirmSubscription&TopicArn={self.ARN}&Token={token}"
        fields = {
            "Type": "SubscriptionConfirmation",
            "MessageId": str(uuid.UUID(int=crc32(token.encode()))),
            "Token": token,
            "TopicArn": self.ARN,
            "Message": f"You have chosen to subscribe to the topic {self.ARN}.\nTo confirm, visit the SubscribeURL.",
            "SubscribeURL": f"{self.HOST}/?{query}",
            "Timestamp": _time(now),
        }
        return self._signed(fields, self._keys[self.key_id], self.key_id)

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:  # noqa: ARG002
        """Return headers that repeat what is in the body; none of them is signed."""
        document = json.loads(body)
        return {
            "Content-Type": "text/plain; charset=UTF-8",
            "User-Agent": "Amazon Simple Notification Service Agent",
            "x-amz-sns-message-type": document.get("Type", "Notification"),
            "x-amz-sns-message-id": document.get("MessageId", ""),
            "x-amz-sns-topic-arn": self.ARN,
        }

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        key_id = next(iter(self._keys))
        text = body.decode()
        match forgery:
            case Forgery.TAMPERED:
                made = json.loads(self._notify(text, now, key_id))
                made["Message"] += " "
            case Forgery.STALE:
                made = json.loads(self._notify(text, now - timedelta(hours=1, seconds=2), key_id))
            case Forgery.FUTURE:
                made = json.loads(self._notify(text, now + timedelta(hours=1, seconds=32), key_id))
            case Forgery.WRONG_KEY:
                made = json.loads(self._notify(text, now, key_id, rsa.generate_private_key(65537, RSA_BITS)))
            case Forgery.MALFORMED:
                made = json.loads(self._notify(text, now, key_id))
                made["Signature"] = _MALFORMED[crc32(body) % len(_MALFORMED)]
            case Forgery.UNSIGNED:
                made = json.loads(self._notify(text, now, key_id))
                del made["Signature"]
            case _:
                raise unsupported(self.NAME, forgery)
        changed = json.dumps(made).encode()
        return Signed(self.sign(changed, now), changed)

    def _notify(self, message: str, now: datetime, key_id: str, key: rsa.RSAPrivateKey | None = None) -> bytes:
        fields = {
            "Type": "Notification",
            "MessageId": str(uuid.UUID(hashlib.sha256(message.encode()).hexdigest()[:32])),
            "TopicArn": self.ARN,
            "Subject": self.SUBJECT,
            "Message": message,
            "Timestamp": _time(now),
        }
        return self._signed(fields, key or self._keys[key_id], key_id)

    def _signed(self, fields: Mapping[str, str], key: rsa.RSAPrivateKey, key_id: str) -> bytes:
        names = _SIGNED if fields["Type"] == "Notification" else _SIGNED_CONFIRMATION
        text = "".join(f"{name}\n{fields[name]}\n" for name in names).encode()
        digest = hashes.SHA256() if self._version == "2" else hashes.SHA1()  # noqa: S303 - the version's own
        signature = base64.b64encode(key.sign(text, padding.PKCS1v15(), digest)).decode("ascii")
        return json.dumps(
            {
                **fields,
                "SignatureVersion": self._version,
                "Signature": signature,
                "SigningCertURL": key_id,
                "UnsubscribeURL": f"{self.HOST}/?Action=Unsubscribe&SubscriptionArn={self.ARN}:1",
            }
        ).encode()


def _event(happening: Happening) -> dict[str, Any]:
    message, kind = happening.subject_message, happening.kind
    recipient, at = happening.recipients[0], _time(happening.at)
    tags = {"ses:configuration-set": ["shop"], "ses:caller-identity": ["shop"]}
    if message.tag:
        tags["campaign"] = [message.tag]
    event: dict[str, Any] = {
        "eventType": _TYPES[kind],
        "mail": {
            "timestamp": at
            if kind in (EventType.SENT, EventType.REJECTED, EventType.FAILED)
            else _time(message.submitted_at),
            "source": message.sender,
            "sendingAccountId": "123456789012",
            "messageId": message.uuid,
            "destination": [recipient],
            "headersTruncated": False,
            "headers": [{"name": "Subject", "value": message.subject}],
            "commonHeaders": {"from": [message.sender], "to": [recipient], "subject": message.subject},
            "tags": tags,
        },
    }
    name = "failure" if kind is EventType.FAILED else _TYPES[kind][:1].lower() + _TYPES[kind][1:]
    event[name] = _describe_failure(happening, at) or _describe(happening, at)
    return event


def _describe(happening: Happening, at: str) -> dict[str, Any]:
    """Return what an event says beside the mail that it is about."""
    match happening.kind:
        case EventType.DELIVERED:
            return {
                "timestamp": at,
                "processingTimeMillis": 546,
                "recipients": [happening.recipients[0]],
                "smtpResponse": "250 ok:  Message 64111812 accepted",
                "reportingMTA": "a8-70.smtp-out.amazonses.com",
            }
        case EventType.OPENED:
            return {"timestamp": at, "ipAddress": happening.ip, "userAgent": happening.user_agent}
        case EventType.CLICKED:
            seen = {"timestamp": at, "ipAddress": happening.ip, "userAgent": happening.user_agent}
            return {**seen, "link": happening.url, "linkTags": None}
        case EventType.UNSUBSCRIBED:
            return {
                "contactList": "news",
                "timestamp": at,
                "source": "UnsubscribeHeader",
                "newTopicPreferences": {"unsubscribeAll": True, "topicSubscriptionStatus": []},
                "oldTopicPreferences": {"unsubscribeAll": False, "topicSubscriptionStatus": []},
            }
    return {}


def _describe_failure(happening: Happening, at: str) -> dict[str, Any]:
    """Return what an event says of a failure; nothing if it is none."""
    number, reply = happening.subject_message.number, happening.reply
    listed = {"emailAddress": happening.recipients[0]}
    if reply:
        diagnostic = f"smtp; {reply.smtp_status} {reply.enhanced_code} {reply.text}"
        listed |= {"status": reply.enhanced_code, "diagnosticCode": diagnostic}
    match happening.kind:
        case EventType.DEFERRED:
            expires_at = _time(happening.at + timedelta(hours=14))
            return {
                "timestamp": at,
                "delayType": "General",
                "expirationTime": expires_at,
                "delayedRecipients": [listed],
            }
        case EventType.BOUNCED:
            is_full = reply is not None and reply.classification is Classification.MAILBOX_FULL
            return {
                "bounceType": "Transient" if is_full else "Permanent",
                "bounceSubType": "MailboxFull" if is_full else "General",
                "bouncedRecipients": [{**listed, "action": "failed"}],
                "timestamp": at,
                "feedbackId": f"0100{number:012x}-000000",
                "reportingMTA": "dsn; mta.example",
            }
        case EventType.COMPLAINED:
            return {
                "complainedRecipients": [listed],
                "timestamp": at,
                "feedbackId": f"0200{number:012x}-000000",
                "complaintFeedbackType": "abuse",
            }
        case EventType.REJECTED:
            return {"reason": "Bad content"}
        case EventType.FAILED:
            return {"errorMessage": "Attribute 'name' is not present", "templateName": "invoice"}
    return {}


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"

"""Notifications of Amazon SNS and of services that speak its protocol, signed by a certificate.

Sources: Amazon's "Verifying the signatures of Amazon SNS messages" and "Parsing message formats"; the attacks on
validators that were published (a bucket named `sns` at `s3.amazonaws.com`, unchecked subscription URLs).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509 import load_pem_x509_certificate

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.events.event import Event
from shared.http.aws_signature import AccessKey
from shared.providers.webhooks import forms, payload
from shared.providers.webhooks.authentication import (
    decode_base64,
    malformed,
    read_basic,
    read_optional,
    read_secrets,
    require_body,
    verify_basic,
)
from shared.providers.webhooks.base import PULLED, CredentialField, KeyLookup, SourceSettings, WebhookRequest
from shared.providers.webhooks.jwks import is_signed_by
from shared.vocabulary import EventType, RefusalReason

MAX_AGE = timedelta(hours=1)
"""The longest time over which SNS repeats a notification."""

_ALGORITHMS: Mapping[str, HashAlgorithm] = {"1": SHA1(), "2": SHA256()}  # noqa: S303 - SNS' default
_CONFIRMATION_FIELDS = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED_FIELDS: Mapping[str, Sequence[str]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION_FIELDS,
    "UnsubscribeConfirmation": _CONFIRMATION_FIELDS,
}
"""What is signed, in this order; a subject only where there is one."""

_MAX_URL = 256
_MIN_BITS, _MAX_BITS = 1024, 8192
_ARN = re.compile(r"arn:[a-z0-9-]+:sns:([a-z0-9-]+):[A-Za-z0-9_-]*:[A-Za-z0-9_.-]+")

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="topic_arns",
        type="list",
        required=True,
        help="The topics whose notifications are accepted. Anybody can have a topic, so the signature is not enough.",
    ),
    CredentialField(
        name="username",
        type="text",
        help="For raw message delivery only, which is not signed: the user of the subscription's URL.",
    ),
    CredentialField(
        name="password",
        type="text",
        secret=True,
        help="For raw message delivery: the password of the subscription's URL.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The key of a signing certificate, and when it is valid."""

    key: RSAPublicKey
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The accepted topics, the fetched certificates by their URLs, and what authenticates raw deliveries.

    Without topics, every message of the source's queue is accepted: the queue's policy decides who may send. `regions`
    are those of the topics, or else that of the queue.
    """

    topic_arns: frozenset[str]
    certificates: Mapping[str, Certificate]
    accepted: Sequence[bytes]
    regions: frozenset[str]
    access_key: AccessKey | None = None

    @property
    def api_key(self) -> str | None:
        """The public part of what authenticates calls to the API; None without an access key."""
        return self.access_key.access_key_id if self.access_key else None


class Envelope(msgspec.Struct, rename="pascal"):
    """A message of SNS. The fields are texts; `message` is the inner document."""

    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature_version: str | int = ""
    signature: str = ""
    signing_cert_url: str = msgspec.field(default="", name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(default=None, name="SubscribeURL")


_envelope = msgspec.json.Decoder(Envelope)
_NAMES = {field.encode_name: field.name for field in msgspec.structs.fields(Envelope)}


def read_credentials(
    raw: Mapping[str, Any], fetched_keys: Mapping[str, str], settings: SourceSettings, /
) -> Credentials:
    """Parse `{topic_arns, username?, password?}`, and the access key for API and queue. Raises CredentialsError."""
    topics = () if settings.queue and raw.get("topic_arns") is None else read_secrets(raw, "topic_arns")
    regions = {settings.queue.region} if settings.queue and not topics else set()
    for topic in topics:
        arn = _ARN.fullmatch(topic)
        if arn is None:
            raise CredentialsError(f"`topic_arns` must be ARNs of topics (arn:aws:sns:…), not {topic[:100]!r}")
        regions.add(arn[1])
    has_password = raw.get("username") is not None or raw.get("password") is not None
    certificates = {url: one for url, text in fetched_keys.items() if (one := _load(text.encode()))}
    return Credentials(
        topic_arns=frozenset(topics),
        certificates=certificates,
        accepted=read_basic(raw) if has_password else (),
        regions=frozenset(regions),
        access_key=_read_access_key(raw, settings),
    )


def _read_access_key(raw: Mapping[str, Any], settings: SourceSettings) -> AccessKey | None:
    names = ("access_key_id", "secret_access_key", "session_token")
    key_id, secret, token = (read_optional(raw, name) for name in names)
    if key_id is None and secret is None and settings.queue is None:
        return None
    for name, value in (("access_key_id", key_id), ("secret_access_key", secret)):
        if value is None:
            reason = "an access key has both" if settings.queue is None else "the queue is read with it"
            raise CredentialsError(f"`{name}` is missing: {reason}")
    return AccessKey(access_key_id=key_id or "", secret_access_key=secret or "", session_token=token)


def read_keys(document: bytes, key_id: str, /) -> Mapping[str, str]:
    """Return the certificate that was fetched from this URL. Raises PayloadError if it is not one."""
    if _load(document) is None:
        raise PayloadError("The document is not an X.509 certificate with an RSA key")
    return {key_id: document.decode("ascii", "replace")}


def _load(document: bytes) -> Certificate | None:
    try:
        certificate = load_pem_x509_certificate(document)
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, RSAPublicKey) or not _MIN_BITS <= key.key_size <= _MAX_BITS:
        return None
    return Certificate(key=key, not_before=certificate.not_valid_before_utc, not_after=certificate.not_valid_after_utc)


def read_envelope(body: bytes) -> Envelope | None:
    """Return the message of SNS in a body; None if the body is not one."""
    try:
        return payload.decode(payload.read(body).clean, _envelope)
    except PayloadError:
        return None


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, certificate_url: re.Pattern[str]) -> None:
    """Verify a message: its topic, its age, and its signature by a certificate whose URL matches the pattern.

    Of a message from a queue, the age is that at which the queue got it: it may wait there for two weeks. If the source
    names no topics, it may be of any topic, or be none of SNS.
    Raises VerificationError, which carries the URL if the certificate has not been fetched yet.
    """
    body = require_body(request)
    is_any_topic = False
    if (queued_at := request.headers.get(PULLED)) is not None:
        now = datetime.fromisoformat(queued_at)
        is_any_topic = not credentials.topic_arns
        if is_any_topic and read_envelope(body) is None:
            return
    if request.headers.get("x-amz-sns-rawdelivery", "").lower() == "true":
        _verify_raw(request, credentials)
        return
    found = read_envelope(body)
    if found is None or not found.signature:
        raise VerificationError(RefusalReason.MISSING_SIGNATURE, "The body is not a signed message of SNS")
    _check_fields(request, found)
    if not is_any_topic:
        _check_topic(found.topic_arn, credentials)
    _check_signature(found, credentials, now, certificate_url)


def _check_signature(
    found: Envelope, credentials: Credentials, now: datetime, certificate_url: re.Pattern[str]
) -> None:
    if lookup(found.signing_cert_url, certificate_url) is None:
        raise malformed(f"SigningCertURL is not one of the service's: {payload.quote(found.signing_cert_url)}")
    sent_at = payload.read_time(found.timestamp)
    if sent_at is None:
        raise malformed("Timestamp is not a time")
    if abs(now - sent_at) > MAX_AGE:
        raise VerificationError(RefusalReason.STALE, f"Timestamp outside the allowed window (±{MAX_AGE})")
    signature = decode_base64(found.signature, "Signature")
    certificate = credentials.certificates.get(found.signing_cert_url)
    if certificate is None:
        sentence = f"The certificate is not known yet: {found.signing_cert_url}"
        raise VerificationError(RefusalReason.UNKNOWN_KEY, sentence, key_id=found.signing_cert_url)
    if not certificate.not_before <= now.astimezone(UTC) <= certificate.not_after:
        raise VerificationError(RefusalReason.BAD_SIGNATURE, "The certificate is not valid at this time")
    if not is_signed_by(certificate.key, signature, canonical_text(found), _ALGORITHMS[str(found.signature_version)]):
        raise VerificationError(RefusalReason.BAD_SIGNATURE, "Signature verification failed for the certificate")


def _check_fields(request: WebhookRequest, found: Envelope) -> None:
    version = str(found.signature_version)
    if found.type not in SIGNED_FIELDS or version not in _ALGORITHMS:
        raise malformed(f"Type {found.type[:60]!r} or SignatureVersion {version[:60]!r} is unknown")
    for header, value in (("x-amz-sns-message-type", found.type), ("x-amz-sns-message-id", found.message_id)):
        if request.headers.get(header, value) != value:
            raise malformed(f"{header} differs from the body")


def _verify_raw(request: WebhookRequest, credentials: Credentials) -> None:
    if not credentials.accepted:
        sentence = "Raw message delivery is not signed: switch it off, or set `username` and `password`"
        raise VerificationError(RefusalReason.MISSING_SIGNATURE, sentence)
    verify_basic(request, credentials.accepted)
    _check_topic(request.headers.get("x-amz-sns-topic-arn", ""), credentials)


def _check_topic(arn: str, credentials: Credentials) -> None:
    if arn not in credentials.topic_arns:
        sentence = f"The topic is not in `topic_arns`: {payload.quote(arn)}"
        raise VerificationError(RefusalReason.BAD_CREDENTIALS, sentence)


def canonical_text(found: Envelope) -> bytes:
    """Return the text that is signed: a name and a value on a line each."""
    given = ((name, getattr(found, _NAMES[name])) for name in SIGNED_FIELDS[found.type])
    return "".join(f"{name}\n{value}\n" for name, value in given if value is not None).encode("utf-8", "surrogatepass")


def confirmation_url(
    request: WebhookRequest, settings: SourceSettings, endpoint: Callable[[str], str], /
) -> str | None:
    """Return the call that confirms the subscription: made from the topic, not taken from the body.

    `endpoint` is the address of the service's API in a region; `settings.api_base` replaces it.
    """
    found = read_envelope(request.body)
    arn = _ARN.fullmatch(found.topic_arn) if found else None
    if not found or not arn or found.type != "SubscriptionConfirmation" or not found.token:
        return None
    query = forms.write_query({"Action": "ConfirmSubscription", "TopicArn": found.topic_arn, "Token": found.token})
    return f"{(settings.api_base or endpoint(arn[1])).rstrip('/')}/?{query}"


def parse(body: bytes, read: Callable[[payload.Item, str | None], list[Event]]) -> list[Event]:
    """Return the events that `read` finds in a notification's document, or in a document that came without one.

    A message about the subscription itself becomes a separate event. Raises PayloadError if the body is not JSON.
    """
    found = read_envelope(body)
    whole = payload.read(body)
    if found is None:
        return read(whole, None)
    if found.type == "SubscriptionConfirmation":
        details = {"event": found.type}
        return [Event(type=EventType.TEST, provider_object=whole.exact, identity=found.message_id, details=details)]
    if found.type == "UnsubscribeConfirmation":
        problem = f"The subscription to {found.topic_arn} has ended: no more events come from it. Subscribe again"
        return [payload.refuse(whole, problem)]
    try:
        item = payload.read(found.message.encode("utf-8", "replace"))
        payload.decode_any(item.clean)
    except PayloadError:
        if found.message.startswith("Successfully validated SNS topic"):
            return [Event(type=EventType.TEST, provider_object=whole.exact, identity=found.message_id)]
        return [payload.refuse(whole, f"The message is not JSON: {payload.quote(found.message)}")]
    return read(item, found.message_id)


def lookup(key_id: str, certificate_url: re.Pattern[str]) -> KeyLookup | None:
    """Return where the certificate is: at the URL that is its id, if that is one of the service's."""
    return KeyLookup(url=key_id) if len(key_id) <= _MAX_URL and certificate_url.fullmatch(key_id) else None

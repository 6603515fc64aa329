"""What the tests that every provider inherits must know of each: one row a provider, in the order of the registry."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.vocabulary import EventType
from simulator.providers.base import QUERY
from simulator.providers.described import DescribedDialect
from tests.support.signed_requests import DESCRIBED, NOW, dialect, read_payloads


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One provider.

    `headers` are those that the verification reads; `unset` are credentials that must be refused; `identifying` are
    the fields that say which event it is, about whom. `secrets` are the credential fields that are never shown.
    `unknown` is a body with a kind of event that does not exist, `batch` one with a bad item between two good ones,
    `automated` one that the provider itself calls a program's. `key_header` has the id of the request.
    """

    headers: Sequence[str]
    unset: Sequence[Mapping[str, Any]]
    identifying: frozenset[str]
    unknown: bytes
    places: Sequence[bytes]
    secrets: Sequence[str] = ()
    covers_body: bool = True
    batch: bytes | None = None
    automated: bytes | None = None
    key_header: str | None = None


def _basic(**more: Any) -> Sequence[Mapping[str, Any]]:
    """Pairs of user and password that would let anybody in."""
    return [
        {},
        {"username": "a"},
        {"password": "b"},
        {"username": "", "password": ""},
        {"username": "a", "password": ""},
        {"username": None, "password": None},
        {"username": "a:b", "password": "c"},
        {"username": "a", "password": "b", "previous": ["x"]},
        {"username": "a", "password": "b", "previous": [{"username": "a", "password": ""}]},
        *({name: value} for name, value in more.items()),
    ]


def _secrets(name: str, *more: Any) -> Sequence[Mapping[str, Any]]:
    """Lists of secrets that would let anybody in."""
    return [{}, *({name: value} for value in (None, "", [], [""], ["a", ""], {"a": "b"}, 5, *more))]


_POSTAL = frozenset(
    {"event", "payload", "message", "original_message", "status", "uuid", "id", "token", "message_id", "to"}
)
_NO_SECRETS = _secrets("secrets", ["whsec_"], ["whsec_%%%"], ["whpk_AAAA"], "whpk_")

_IDENTIFYING: Mapping[str, set[str]] = {
    "brevo": {"event", "email", "message-id"},
    "mailjet": {"event", "email", "MessageID", "Message_GUID", "error", "hard_bounce"},
    "sparkpost": {
        "msys", "message_event", "track_event", "gen_event", "unsubscribe_event",
        "type", "event_id", "raw_rcpt_to", "rcpt_to", "message_id", "transmission_id", "bounce_class",
    },
    "mailersend": {"type", "data", "id", "email", "message", "recipient"},
    "mandrill": {"event", "_id", "msg", "email"},
    "mailtrap": {"events", "event", "event_id", "email", "message_id"},
    "unisender": {"events_by_user", "events", "event_name", "event_data", "status", "email", "job_id"},
    "lettermint": {"id", "event", "data", "message_id", "recipient"},
    "emailit": {"event_id", "type", "data", "object", "id", "message_id", "to"},
    "ahasend": {"type", "data", "id", "message_id_header", "recipient"},
    "mailpace": {"event", "payload", "id", "message_id", "to"},
    "smtp2go": {"event", "email_id", "message-id", "rcpt"},
    "azure": {"id", "eventType", "data", "status", "messageId", "internetMessageId", "recipient"},
    "elasticemail": {"status", "category", "to", "messageid", "transaction"},
    "cloudflare": {"type", "payload", "eventId", "messageId", "recipient"},
    "kumomta": {"type", "id", "recipient", "headers", "Message-ID", "feedback_report", "original_rcpt_to"},
}  # fmt: skip
_AUTOMATED = {
    "brevo": b'{"event":"proxy_open","email":"a@b.example"}',
    "sparkpost": b'[{"msys":{"track_event":{"type":"open","user_agent_parsed":{"is_prefetched":true}}}}]',
    "ahasend": b'{"type":"message.opened","data":{"recipient":"a@b.example","is_bot":true}}',
}
_KEY_HEADERS = {"ahasend": "webhook-id", "cloudflare": "webhook-id", "sparkpost": "x-messagesystems-batch-id"}
_PLACES = {"mandrill": b'mandrill_events=[{"event":"send","msg":{"email":"a@b.example","diag":%s,"subject":%s}}]'}
_PASSWORDS = {"authorization", QUERY}
_NOT_READ = {"content-type", "x-lettermint-delivery"}
_REPLY = re.compile(rb'"[^"]*(?:The email account does not exist|invoices)[^"]*"')


def _described(name: str) -> Sample:
    """A provider that is described by tables: what its dialect signs, and its payload of a bounce."""
    simulated = dialect(name)
    assert isinstance(simulated, DescribedDialect)
    bounce = read_payloads(name)["sample"].strip()
    given_fields = simulated.credentials()
    field = next((one for one in _FIELDS if one in given_fields), None)
    signing = simulated.sign(bounce, NOW)
    headers = tuple(header.lower() for header in signing if header.lower() not in _NOT_READ)
    return Sample(
        headers=headers,
        unset=_basic() if field is None else _secrets(field),
        identifying=frozenset(_IDENTIFYING[name]),
        secrets=_SECRETS.get(name, () if field == "public_key" else (field or "password", *_ROTATED[field is None])),
        covers_body=not _PASSWORDS.intersection(headers),
        unknown=bounce.replace(simulated.WORDS[EventType.BOUNCED][0].encode(), b"newly_invented"),
        batch=b"[%b,5,%b]" % (bounce[1:-1], bounce[1:-1]) if bounce[:1] == b"[" else None,
        automated=_AUTOMATED.get(name),
        places=[_PLACES.get(name) or _REPLY.sub(b"%s", bounce)],
        key_header=_KEY_HEADERS.get(name),
    )


_ROTATED = ((), ("previous",))
_SECRETS = {
    **dict.fromkeys(("brevo", "kumomta"), ("password", "previous", "token")),
    "sparkpost": ("password", "previous", "token", "api_key"),
    "mandrill": ("webhook_key", "webhook_url"),
}
_FIELDS = ("secrets", "signing_secret", "public_key", "secret", "api_key", "webhook_key")

_ENVELOPE = frozenset(
    {"Type", "Message", "MessageId", "TopicArn", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL"}
    | {"Subject", "Token", "SubscribeURL"}
)

SAMPLES: Mapping[str, Sample] = {
    "mailchannels": Sample(
        headers=("content-digest", "signature-input", "signature"),
        unset=[
            {},
            {"customer_handles": []},
            {"customer_handles": [""]},
            {"customer_handles": "acmeco"},
            {"customer_handles": ["a"], "public_keys": {"k": ""}},
            {"customer_handles": ["a"], "public_keys": {"k": "not a key"}},
            {"customer_handles": ["a"], "public_keys": ["k"]},
            {"customer_handles": ["a"], "api_key": 5},
        ],
        identifying=frozenset({"event", "customer_handle", "request_id", "smtp_id", "recipients"}),
        secrets=("api_key",),
        unknown=b'[{"event":"new","customer_handle":"acmeco","recipients":["a@b.example"]}]',
        batch=b'[{"event":"open","customer_handle":"acmeco"},5,{"event":"open","customer_handle":"acmeco"}]',
        places=[
            b'[{"event":"click","customer_handle":"acmeco","url":%s}]',
            b'[{"event":"open","customer_handle":"acmeco","recipients":[%s],"request_id":"r","new":%s}]',
        ],
    ),
    "ark": Sample(
        headers=("x-ark-signature", "x-ark-signature-kid"),
        unset=[
            {"jwks": {}},
            {"jwks": {"keys": []}},
            {"jwks": "x"},
            {"jwks": {"keys": [{"kty": "RSA"}]}},
            {"tenant_id": ""},
        ],
        identifying=_POSTAL | {"tenant_id"},
        secrets=("api_key",),
        unknown=b'{"event":"MessageNew","payload":{"message":{"id":1,"to":"a@b.example"}}}',
        places=[
            b'{"status":"Sent","message":{"id":1,"to":"a@b.example","metadata":{"k":%s},"tag":null}}',
            b'{"event":"DomainDNSError","payload":{"server":%s}}',
        ],
    ),
    "postal": Sample(
        headers=("x-postal-signature-256", "x-postal-signature", "x-postal-signature-kid"),
        unset=[{}, {"jwks": None}, {"jwks": {"keys": []}}, {"jwks": []}],
        identifying=_POSTAL,
        unknown=b'{"event":"MessageNew","payload":{"message":{"id":1,"to":"a@b.example"}}}',
        places=[b'{"event":"MessageSent","payload":{"message":{"id":1,"subject":%s}}}'],
    ),
    "cloudmailin": Sample(
        headers=("authorization",),
        unset=_basic(),
        identifying=frozenset({"events", "kind", "message_id", "recipient"}),
        secrets=("password", "previous"),
        covers_body=False,
        unknown=b'{"events":[{"kind":"new","recipient":"a@b.example","message_id":"m"}]}',
        batch=b'{"events":[{"kind":"open","message_id":"m"},5,{"kind":"open","message_id":"m"}]}',
        places=[b'{"events":[{"kind":"click","recipient":"a@b.example","message_id":"m","details":{"url":%s}}]}'],
    ),
    "mailwebhook": Sample(
        headers=("x-mailwebhook-signature",),
        unset=[
            {},
            {"signing_secrets": {}},
            {"signing_secrets": {"a": ""}},
            {"signing_secrets": {"": "x"}},
            {"signing_secrets": {"a": "base64:"}},
            {"signing_secrets": {"a": "base64:%"}},
            {"signing_secrets": {"a": "hex:0"}},
            {"signing_secrets": ["x"]},
        ],
        identifying=frozenset(
            {"event_id", "schema", "name", "message", "message_id", "envelope", "rcpt_to", "to", "event", "id"}
            | {"project_id"}
        ),
        secrets=("signing_secrets", "api_key"),
        unknown=b'{"schema":{"name":"mailwebhook.generic"}}',
        places=[b'{"text":%s}', b"%s"],
        key_header="x-idempotency-key",
    ),
    "ses": Sample(
        headers=("x-amz-sns-message-type", "x-amz-sns-message-id"),
        unset=[
            *_secrets("topic_arns", ["topic"], ["arn:aws:s3:::bucket"], "*"),
            {"topic_arns": ["arn:aws:sns:eu-west-1:1:a"], "username": "a"},
            {"topic_arns": ["arn:aws:sns:eu-west-1:1:a"], "password": "b"},
            {"topic_arns": ["arn:aws:sns:eu-west-1:1:a"], "username": "a", "password": ""},
            {"topic_arns": ["arn:aws:sns:eu-west-1:1:a"], "access_key_id": "AKIA"},
            {"topic_arns": ["arn:aws:sns:eu-west-1:1:a"], "secret_access_key": "s"},
        ],
        identifying=frozenset(
            {"eventType", "notificationType", "mail", "messageId", "destination", "bounce", "complaint", "delivery"}
            | {"deliveryDelay", "bouncedRecipients", "complainedRecipients", "delayedRecipients", "recipients"}
            | {"emailAddress", "bounceSubType", "subscription", "newTopicPreferences", "unsubscribeAll"}
            | {"topicSubscriptionStatus", "subscriptionStatus", "detail", "receipt", *_ENVELOPE}
        ),
        secrets=("password", "secret_access_key", "session_token"),
        unknown=b'{"eventType":"New","mail":{"messageId":"m","destination":["a@b.example"]}}',
        places=[
            b'{"eventType":"Click","mail":{"messageId":"m","destination":["a@b.example"]},"click":{"link":%s}}',
            b'{"eventType":"Send","mail":{"messageId":"m","destination":["a@b.example"],"tags":{"k":%s}},"send":{}}',
        ],
    ),
    "sendgrid": Sample(
        headers=("x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp"),
        unset=_secrets(
            "public_key", "not a key", ["MFkw"], "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
        ),
        identifying=frozenset({"event", "email", "sg_message_id", "smtp-id", "sg_event_id"}),
        unknown=b'[{"event":"new","email":"a@b.example","sg_message_id":"m.filter1","timestamp":1767225600}]',
        batch=b'[{"event":"open","email":"a@b.example"},5,{"event":"click","email":"a@b.example"}]',
        automated=b'[{"event":"open","email":"a@b.example","sg_machine_open":true}]',
        places=[
            b'[{"event":"click","email":"a@b.example","url":%s,"category":["a",%s]}]',
            b'[{"event":"bounce","email":"a@b.example","reason":%s,"sg_message_id":"m.filter1","own":%s}]',
        ],
        secrets=("api_key",),
    ),
    "postmark": Sample(
        headers=("authorization",),
        unset=[*_basic(), {"headers": {}}, {"headers": {"x": ""}}, {"headers": ["x"]}],
        identifying=frozenset(
            {"RecordType", "Type", "TypeCode", "MessageID", "Email", "Recipient", "To", "ID", "SuppressSending"}
            | {"SuppressionReason", "FromFull", "OriginalRecipient"}
        ),
        secrets=("password", "previous", "headers", "api_key"),
        covers_body=False,
        unknown=b'{"RecordType":"New","MessageID":"m","Recipient":"a@b.example"}',
        places=[
            b'{"RecordType":"Click","MessageID":"m","Recipient":"a@b.example","OriginalLink":%s,"Metadata":{"k":%s}}'
        ],
        key_header="x-pm-webhook-trace-id",
    ),
    "resend": Sample(
        headers=("svix-id", "svix-timestamp", "svix-signature"),
        unset=_NO_SECRETS,
        secrets=("secrets", "api_key"),
        identifying=frozenset(
            {"type", "data", "email_id", "to", "email", "bounce", "failed", "suppressed", "message", "reason"}
            | {"diagnosticCode", "delivery_delayed", "delay"}
        ),
        unknown=b'{"type":"email.new","data":{"email_id":"m","to":["a@b.example"]}}',
        places=[b'{"type":"email.clicked","data":{"email_id":"m","to":["a@b.example"],"click":{"link":%s},"tags":%s}}'],
        key_header="svix-id",
    ),
    "standardwebhooks": Sample(
        headers=("webhook-id", "webhook-timestamp", "webhook-signature"),
        unset=_NO_SECRETS,
        secrets=("secrets",),
        identifying=frozenset(
            {"type", "eventName", "event", "event_type", "data", "email", "contactIdentity", "message", "id"}
            | {"recipient", "recipients", "to", "email_address", "rcpt_to", "address", "email_id", "message_id"}
            | {"provider_message_id", "emailMessageId", "messageId"}
        ),
        unknown=b'{"type":"email.new","data":{"message_id":"m","to":"a@b.example"}}',
        automated=b'{"type":"message.opened","data":{"message_id":"m","recipient":"a@b.example","is_bot":true}}',
        places=[
            b'{"type":"email.clicked","data":{"message_id":"m","to":["a@b.example"],"url":%s,"metadata":{"k":%s}}}'
        ],
        key_header="webhook-id",
    ),
    "mailgun": Sample(
        headers=(),  # the signature is in the body
        unset=[*_secrets("signing_key"), {"signing_key": "k", "api_key": "k"}],
        identifying=frozenset(
            {"event-data", "event", "severity", "recipient", "message", "headers", "message-id", "to", "id"}
        ),
        secrets=("signing_key", "api_key"),
        covers_body=False,
        unknown=b'{"event-data":{"event":"new","recipient":"a@b.example","id":"e"}}',
        automated=b'{"event-data":{"event":"opened","recipient":"a@b.example","client-info":{"bot":"apple"}}}',
        places=[
            b'{"event-data":{"event":"clicked","recipient":"a@b.example","url":%s,"user-variables":{"k":%s},"tags":[%s]}}'
        ],
    ),
    **{name: _described(name) for name in DESCRIBED},
    "scaleway": Sample(
        headers=("x-amz-sns-message-type", "x-amz-sns-message-id"),
        unset=[*_secrets("topic_arns", ["topic"], "*"), {"topic_arns": ["arn:scw:sns:fr-par:p:a"], "username": "a"}],
        identifying=frozenset({"id", "type", "email_id", "email_to", *_ENVELOPE}),
        secrets=("password",),
        unknown=b'{"type":"email_new","email_id":"m","email_to":"a@b.example"}',
        places=[
            b'{"type":"email_dropped","email_id":"m","email_to":"a@b.example","email_response_message":%s,"new":%s}'
        ],
    ),
    "generic": Sample(
        headers=("x-acme-signature", "x-acme-timestamp"),
        unset=_secrets("secrets"),
        identifying=frozenset({"events", "event", "email", "message", "id"}),
        secrets=("secrets", "password", "previous", "value"),
        unknown=b'{"events":[{"event":"new","email":"a@b.example","message":{"id":"m"}}]}',
        batch=b'{"events":[{"event":"bounce","email":"a@b.example"},5,{"event":"bounce","email":"a@b.example"}]}',
        places=[b'{"events":[{"event":"delivery","email":"a@b.example","response":%s,"tags":[{"name":%s}]}]}'],
    ),
}

"""What requests and answers about subscriptions hold."""

from typing import Any

from marshmallow import Schema, fields, validate

from api.core.fields import Instant, PageQuery, Strict, identifier, instant, text
from shared.domain.subscription_checks import SCHEDULES, TYPES, WILDCARDS
from shared.domain.subscriptions import Payload, SubscriptionState
from shared.http.standard_webhooks import Scheme
from shared.subscription_registrations import DEFAULTS, LONGEST_OVERLAP, OLD_SECRET_SIGNS_FOR

_STATES = [str(state) for state in SubscriptionState]


def _words(description: str, **kwargs: Any) -> fields.List[Any]:
    return fields.List(fields.String(), metadata={"description": description}, **kwargs)


class SubscriptionQuery(PageQuery):
    """Which subscriptions."""

    state = fields.Enum(SubscriptionState, by_value=True)


class _Wishes(Strict):
    """What can be asked for."""

    name = fields.String(metadata={"description": "For people; the host of the URL, if not given."})
    sources = _words("Only changes of these sources; all, if empty.")
    recipient_domains = _words("Only where the recipient is of one of these domains; all, if empty.")
    tags = _words("Only where the message bears one of these tags; all, if empty.")
    payload = fields.Enum(
        Payload, by_value=True, metadata={"description": "`cloudevents`: CloudEvents 1.0, structured mode."}
    )
    timeout_s = fields.Integer(strict=True, metadata={"description": "For the whole answer; 1 to 30."})
    retry_schedule = fields.Raw(
        metadata={
            "description": "Seconds before each retry, ±20 %; or the name of a schedule.",
            "oneOf": [
                {"type": "array", "items": {"type": "integer"}},
                {"type": "string", "enum": list(SCHEDULES)},
            ],
        }
    )
    rate_per_second = fields.Float(
        allow_none=True, metadata={"description": "At most so many requests a second; null: as fast as it answers."}
    )
    concurrency = fields.Integer(strict=True, metadata={"description": "At most so many at once; 1 to 100."})
    ordered = fields.Boolean(metadata={"description": "Changes of one message one after the other, in their order."})


class _NewSecret(Strict):
    """What is to sign."""

    secret = fields.String(
        metadata={
            "description": "`whsec_` and the base64 of 24 to 64 bytes, or `whsk_` and an Ed25519 key;"
            " made here if not given."
        }
    )
    scheme = fields.Enum(
        Scheme,
        by_value=True,
        load_default=Scheme.V1,
        metadata={"description": "Of the secret that is made here: `v1` HMAC-SHA256, `v1a` Ed25519."},
    )


class NewSubscription(_NewSecret, _Wishes):
    """A subscription to be made."""

    url = fields.String(
        required=True,
        metadata={
            "description": "http or https, without user name, at a public address.",
            "examples": ["https://hooks.example.com/mail"],
        },
    )
    types = _words(f"Of {', '.join((*WILDCARDS, *TYPES))}.", required=True)
    tenant = text("Only changes of this tenant, whose subscription it is for good; null for every tenant.")
    headers = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "Sent with every request. The values are never shown."},
    )


class SubscriptionPatch(_Wishes):
    """What is to be changed of a subscription: what is not given stays."""

    url = fields.String()
    types = _words("As when it is made.")
    headers = fields.Dict(
        keys=fields.String(),
        values=fields.String(allow_none=True),
        metadata={"description": "Those that are given are set, null removes, the others stay (RFC 7396)."},
    )
    version = fields.Integer(
        metadata={"description": "If given: change it only if this is its version, otherwise answer 409."}
    )


class Rotation(_NewSecret):
    """Another secret."""

    overlap_s = fields.Integer(
        load_default=int(OLD_SECRET_SIGNS_FOR.total_seconds()),
        validate=validate.Range(0, int(LONGEST_OVERLAP.total_seconds())),
        metadata={"description": "For how many seconds the secrets before sign, too; 0 for one that leaked."},
    )


class Signing(Schema):
    """A secret that signs."""

    scheme = fields.String(metadata={"enum": [str(scheme) for scheme in Scheme]})
    public_key = text("What to verify with (`whpk_…`), where the scheme is `v1a`.")
    expires_at = instant("Null: for good.")


class Health(Schema):
    """How an endpoint fares."""

    failures = fields.Integer(metadata={"description": "Since the last success."})
    failing_since = instant()
    open_until = instant("Until then it is left alone, because it kept failing or asked for it; uses up no attempts.")
    last_success_at = instant()
    last_failure_at = instant()
    last_error = text()


class Subscription(Schema):
    """A subscription."""

    id = identifier()
    name = fields.String()
    url = fields.String(metadata={"description": "Without its query, which may be secret."})
    types = _words("What it is told of.")
    sources = _words("Empty: all; as with the following.")
    tenant = text("Null: every tenant.")
    recipient_domains = _words("Empty: all.")
    tags = _words("Empty: all.")
    headers = fields.Dict(keys=fields.String(), values=fields.String(), metadata={"description": "Values hidden."})
    payload = fields.String(metadata={"enum": [str(form) for form in Payload]})
    timeout_s = fields.Integer(metadata={"default": DEFAULTS["timeout_s"]})
    retry_schedule = fields.List(fields.Integer(), metadata={"description": "Seconds before each retry."})
    rate_per_second = fields.Float(allow_none=True)
    concurrency = fields.Integer(metadata={"default": DEFAULTS["concurrency"]})
    ordered = fields.Boolean()
    state = fields.String(
        metadata={
            "enum": _STATES,
            "description": "What comes meanwhile waits for a paused one, and not for a disabled one: see `recover`.",
        }
    )
    state_reason = text("Why it is paused or disabled.")
    state_since = Instant()
    signing = fields.List(fields.Nested(Signing), metadata={"description": "Everything sent is signed with each."})
    health = fields.Nested(Health)
    version = fields.Integer(metadata={"description": "Grows with every change."})
    created_at = Instant()
    updated_at = Instant()
    problem = text("Why it cannot be used; null if it can.")


class SubscriptionWithSecret(Subscription):
    """A subscription whose secret was just made."""

    secret = text("What to verify with: shown now and never again. Null where the scheme is `v1a`.")
    public_key = text("What to verify with (`whpk_…`), where the scheme is `v1a`.")

"""Schemas of requests and responses about subscriptions."""

from typing import Any

from marshmallow import Schema, fields, validate

from api.core.fields import Instant, PageQuery, Strict, identifier, instant, text
from shared import backoff
from shared.http.standard_webhooks import Scheme
from shared.subscriptions.service import DEFAULT_OVERLAP, DEFAULTS, MAX_OVERLAP
from shared.subscriptions.validation import TYPES, WILDCARDS
from shared.vocabulary import PayloadFormat, SubscriptionState

_STATES = [str(state) for state in SubscriptionState]


def _strings(description: str, **kwargs: Any) -> fields.List[Any]:
    return fields.List(fields.String(), metadata={"description": description}, **kwargs)


class SubscriptionQuery(PageQuery):
    """Filters of a list of subscriptions."""

    state = fields.Enum(SubscriptionState, by_value=True)


class _Fields(Strict):
    """Fields that can be set."""

    name = fields.String(metadata={"description": "A label for people. Default: the host of the URL."})
    sources = _strings("Only changes of these sources; all, if empty.")
    recipient_domains = _strings("Only where the recipient is of one of these domains; all, if empty.")
    tags = _strings("Only of messages with one of these tags; all, if empty.")
    payload = fields.Enum(
        PayloadFormat, by_value=True, metadata={"description": "`cloudevents`: CloudEvents 1.0, structured mode."}
    )
    timeout_s = fields.Integer(strict=True, metadata={"description": "Seconds for the whole response; 1 to 30."})
    retry_schedule = fields.Raw(
        metadata={
            "description": "Seconds before each retry, ±20 %; or the name of a schedule.",
            "oneOf": [
                {"type": "array", "items": {"type": "integer"}},
                {"type": "string", "enum": list(backoff.DELIVERY_SCHEDULES)},
            ],
        }
    )
    rate_per_second = fields.Float(
        allow_none=True, metadata={"description": "Maximum requests per second; null: as fast as the endpoint answers."}
    )
    concurrency = fields.Integer(strict=True, metadata={"description": "Maximum concurrent requests; 1 to 100."})
    ordered = fields.Boolean(metadata={"description": "Send changes of one message one after the other, in order."})
    include_body_text = fields.Boolean(
        metadata={
            "description": "Send the text of inbound mail, as `data.body_text`. Off by default: it is personal data."
        }
    )


class _NewSecret(Strict):
    """A signing secret."""

    secret = fields.String(
        metadata={
            "description": "`whsec_` and the base64 of 24 to 64 bytes, or `whsk_` and an Ed25519 key;"
            " generated if not given."
        }
    )
    scheme = fields.Enum(
        Scheme,
        by_value=True,
        load_default=Scheme.V1,
        metadata={"description": "The scheme of a generated secret: `v1` HMAC-SHA256, `v1a` Ed25519."},
    )


class NewSubscription(_NewSecret, _Fields):
    """A subscription to create."""

    url = fields.String(
        required=True,
        metadata={
            "description": "http or https, without user name, at a public address.",
            "examples": ["https://hooks.example.com/mail"],
        },
    )
    types = _strings(f"One or more of {', '.join((*WILDCARDS, *TYPES))}.", required=True)
    tenant = text("The tenant whose changes it gets, which cannot be changed later; null: every tenant.")
    headers = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "Sent with every request. The values are never shown."},
    )


class SubscriptionPatch(_Fields):
    """Changes to a subscription; fields that are not given stay."""

    url = fields.String()
    types = _strings("As for a new subscription.")
    headers = fields.Dict(
        keys=fields.String(),
        values=fields.String(allow_none=True),
        metadata={"description": "Merged (RFC 7396): a given header is set, null removes it, the others stay."},
    )
    version = fields.Integer(
        metadata={"description": "If given, only this version is changed; otherwise the answer is 409."}
    )


class Rotation(_NewSecret):
    """A rotation of the secret."""

    overlap_s = fields.Integer(
        load_default=int(DEFAULT_OVERLAP.total_seconds()),
        validate=validate.Range(0, int(MAX_OVERLAP.total_seconds())),
        metadata={"description": "For how many seconds the old secrets still sign; 0 if one leaked."},
    )


class Signing(Schema):
    """A secret that signs."""

    scheme = fields.String(metadata={"enum": [str(scheme) for scheme in Scheme]})
    public_key = text("The public key for verification (`whpk_…`); null unless the scheme is `v1a`.")
    expires_at = instant("Null: never.")


class Health(Schema):
    """The health of an endpoint."""

    failures = fields.Integer(metadata={"description": "Failures since the last success."})
    failing_since = instant()
    open_until = instant("No attempt is made before this time: the endpoint kept failing or asked for a pause.")
    last_success_at = instant()
    last_failure_at = instant()
    last_error = text()


class Subscription(Schema):
    """A subscription."""

    id = identifier()
    name = fields.String()
    url = fields.String(metadata={"description": "Without its query, which may be secret."})
    types = _strings("The types of change that it gets.")
    sources = _strings("Empty: all.")
    tenant = text("Null: every tenant.")
    recipient_domains = _strings("Empty: all.")
    tags = _strings("Empty: all.")
    headers = fields.Dict(keys=fields.String(), values=fields.String(), metadata={"description": "Values hidden."})
    payload = fields.String(metadata={"enum": [str(form) for form in PayloadFormat]})
    timeout_s = fields.Integer(metadata={"default": DEFAULTS["timeout_s"]})
    retry_schedule = fields.List(fields.Integer(), metadata={"description": "Seconds before each retry."})
    rate_per_second = fields.Float(allow_none=True)
    concurrency = fields.Integer(metadata={"default": DEFAULTS["concurrency"]})
    ordered = fields.Boolean()
    include_body_text = fields.Boolean()
    state = fields.String(
        metadata={
            "enum": _STATES,
            "description": "Changes wait for a paused one, and not for a disabled one: see `recover`.",
        }
    )
    state_reason = text("Why it is paused or disabled.")
    state_since = Instant()
    signing = fields.List(fields.Nested(Signing), metadata={"description": "Every request is signed with each."})
    health = fields.Nested(Health)
    version = fields.Integer(metadata={"description": "Grows with every change."})
    created_at = Instant()
    updated_at = Instant()
    problem = text("Why it cannot be used; null if it can.")


class SubscriptionWithSecret(Subscription):
    """A subscription with its new secret."""

    secret = text("The secret for verification, shown only in this response. Null if the scheme is `v1a`.")
    public_key = text("The public key for verification (`whpk_…`); null unless the scheme is `v1a`.")

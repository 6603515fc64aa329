"""Schemas of requests and responses about deliveries."""

from marshmallow import Schema, fields, validate

from api.core.fields import (
    Instant,
    SpanQuery,
    Strict,
    identifier,
    instant,
    integer,
    query_text,
    require_known,
    text,
    word,
)
from shared.deliveries import sample_delivery
from shared.deliveries.queries import NO_RESPONSE, STATUS_CODE
from shared.subscriptions.validation import TYPES
from shared.vocabulary import AttemptStatus, DeliveryStatus

_STATUSES = [str(status) for status in DeliveryStatus]
_STATUS_CODE = (
    "The response to the latest attempt: a status code such as `503`, a class of them such as `4xx`,"
    f" or `{NO_RESPONSE}` for no response."
)
_NO_STATUS_CODE = f"Must be a status code such as 503, a class such as 5xx, or {NO_RESPONSE}; not {{input!r}}."
_DRY_RUN = "Only count: the job's report says what it would do."


class DeliveryQuery(SpanQuery):
    """Filters of a list of deliveries."""

    status = fields.Enum(DeliveryStatus, by_value=True)
    subscription = identifier("To this subscription.")
    type = query_text("Of changes of this type, such as `message.bounced`.", checks=[require_known(TYPES)])
    status_code = fields.String(
        validate=validate.Regexp(f"^(?:{STATUS_CODE.pattern})$", error=_NO_STATUS_CODE),
        metadata={"description": _STATUS_CODE},
    )
    message_id = identifier("Of changes of this message.")


class ReplayFilter(Strict):
    """Filters of a replay."""

    status = fields.Enum(DeliveryStatus, by_value=True, load_default=DeliveryStatus.DEAD)
    subscription = identifier("To this subscription.")
    type = query_text("Of changes of this type, such as `message.bounced`.", checks=[require_known(TYPES)])
    status_code = fields.String(
        validate=validate.Regexp(f"^(?:{STATUS_CODE.pattern})$", error=_NO_STATUS_CODE),
        metadata={"description": _STATUS_CODE},
    )
    since = Instant(metadata={"description": "Created from this time on."})
    until = Instant(metadata={"description": "Created before this time; before now, if not given."})


class Replay(Strict):
    """Deliveries to replay."""

    filter = fields.Nested(ReplayFilter, required=True, metadata={"description": "All that is given must hold."})
    dry_run = fields.Boolean(load_default=False, metadata={"description": _DRY_RUN})


class Recovery(Strict):
    """Changes to recover."""

    since = Instant(required=True, metadata={"description": "Changes from this time on."})
    until = Instant(metadata={"description": "Changes before this time; before now, if not given."})
    include_delivered = fields.Boolean(
        load_default=False, metadata={"description": "Also send again what was delivered."}
    )
    dry_run = fields.Boolean(load_default=False, metadata={"description": _DRY_RUN})


class Delivery(Schema):
    """The delivery of one change to one subscription."""

    id = identifier()
    subscription = identifier("The subscription's id.")
    webhook_id = fields.String(
        metadata={"description": "Identifies the change: its `id` in the feed, and the `webhook-id` of every attempt."}
    )
    type = word(TYPES)
    message_id = identifier("The message that the change is about.", allow_none=True)
    status = fields.String(metadata={"enum": _STATUSES})
    attempts = fields.Integer()
    last_http_status = integer("0: no response; null: no attempt yet.")
    last_error = text("Of the latest attempt; null if that was a success.")
    next_attempt_at = instant("Of a retry.")
    waits_for = text("What it waits for, such as the circuit breaker of its endpoint; null once it is over.")
    waits_until = instant("Until when it waits, if that is known.")
    delivered_at = instant()
    created_at = Instant()


class WholeDelivery(Delivery):
    """A delivery with its body, and what to do about it."""

    change = fields.Dict(
        keys=fields.String(),
        allow_none=True,
        metadata={"description": "The body as it would be sent now; null where the change is no longer stored."},
    )
    latest_attempt_shows = fields.String()
    usually_means = fields.String()
    next_action = fields.String(metadata={"description": "What to do."})


class RequestCapture(Schema):
    """The stored part of a request. Empty where it contained an address that was erased."""

    method = fields.String()
    url = fields.String(metadata={"description": "Without its query."})
    headers = fields.Dict(keys=fields.String(), values=fields.String(), metadata={"description": "Secrets hidden."})
    body = fields.String()
    truncated = fields.Boolean(metadata={"description": "Whether the body or the headers were cut."})
    original_bytes = fields.Integer(metadata={"description": "Of the body."})


class ResponseCapture(Schema):
    """The stored part of a response. Empty where it contained an address that was erased."""

    status = fields.Integer(metadata={"description": "0: no response."})
    headers = fields.Dict(keys=fields.String(), values=fields.String())
    body = fields.String()
    network_error = text("Why there was no response.")
    truncated = fields.Boolean(metadata={"description": "Whether it was cut."})


class _AnyAttempt(Schema):
    status = fields.String(metadata={"enum": [str(status) for status in AttemptStatus]})
    http_status = fields.Integer(metadata={"description": "0: no response."})
    latency_ms = fields.Integer()
    created_at = Instant(metadata={"description": "When it began."})


class Attempt(_AnyAttempt):
    """An attempt."""

    id = identifier()
    number = fields.Integer(metadata={"description": "From 1, over replays."})
    request_capture = fields.Nested(RequestCapture)
    response_capture = fields.Nested(ResponseCapture)


class WhatToTest(Strict):
    """What a test delivery sends."""

    type = fields.String(
        validate=validate.OneOf([sample_delivery.TYPE, *TYPES]),
        metadata={"description": "The type of the sample. Default: `test`."},
    )


class SubscriptionTrial(_AnyAttempt):
    """The result of a test delivery."""

    request_capture = fields.Nested(RequestCapture)
    response_capture = fields.Nested(ResponseCapture)
    usually_means = fields.String()
    next_action = fields.String(metadata={"description": "What to do."})

"""The webhooks that subscriptions receive, for the OpenAPI document: a schema and an example for each change type."""

from collections.abc import Mapping
from typing import Any, Final

from shared.changes import samples
from shared.deliveries import sample_delivery
from shared.subscriptions.validation import TYPES
from shared.vocabulary import CHANGE_TYPES, EventType

_NULL: Final = {"type": "null"}


def describe(document: dict[str, Any]) -> None:
    """Add the webhooks to the document, and a schema of each type of change.

    The schemas narrow that of a change in the feed, whose fields must be marked as required before.
    """
    schemas = document["components"]["schemas"]
    document["webhooks"] = {}
    for type_ in TYPES:
        about = type_.partition(".")[0]  # a suppression, an alert, or a message
        fields = dict(schemas["ChangeData"]["properties"])
        for name in ("suppression", "alert"):
            fields[name] = {"$ref": f"#/components/schemas/{name.title()}"} if name == about else _NULL
        if type_ != CHANGE_TYPES[EventType.INBOUND]:
            del fields["body_text"]
        _add(document, type_, {**schemas["ChangeData"], "properties": fields}, samples.make_data(type_))
    subscription = {"type": "string", "format": "uuid", "description": "The subscription that was tested."}
    data = {"type": "object", "properties": {"subscription": subscription}, "required": ["subscription"]}
    _add(document, sample_delivery.TYPE, data, {"subscription": samples.SUBSCRIPTION_ID})


def _add(document: dict[str, Any], type_: str, data: dict[str, Any], example: Mapping[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    name = "".join(part.title() for part in type_.replace(".", "_").split("_"))
    change = schemas["Change"]
    schemas[f"{name}ChangeData"] = data
    schemas[f"{name}Change"] = {
        **change,
        "properties": {
            **change["properties"],
            "type": {"type": "string", "const": type_},
            "data": {"$ref": f"#/components/schemas/{name}ChangeData"},
        },
    }
    shown = {"id": "48151-623", "type": type_, "timestamp": samples.AT, "data": example}
    content = {"schema": {"$ref": f"#/components/schemas/{name}Change"}, "example": shown}
    document["webhooks"][type_] = {
        "post": {
            "operationId": f"receive{name}",
            "summary": f"A change of type `{type_}`.",
            "description": "Signed by Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`.",
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {"200": {"description": "Any status from 200 to 299: it was received."}},
        }
    }

"""The forms of Ark's answers."""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

from simulator.providers.api.routes import RefusedError, json_response, read_number
from simulator.providers.ark.api_suppressions import Suppression
from simulator.providers.ark.api_webhooks import Webhook
from simulator.serving import Call, Response

_WRONG = HTTPStatus.UNPROCESSABLE_ENTITY
_PAGES = range(1, 1 << 31)
_PER_PAGE = range(1, 101)
_Item = TypeVar("_Item")


def refusal(refused: RefusedError) -> Response:
    """Return an error. Its form is not documented in what could be read: this one follows that of successes."""
    code = HTTPStatus(refused.status).phrase.lower().replace(" ", "_")
    document = {"success": False, "error": {"code": code, "message": str(refused)}, "meta": _meta()}
    return json_response(refused.status, document, refused.headers)


def page(call: Call, items: Sequence[_Item], show: Callable[[_Item], dict[str, Any]]) -> Response:
    """Return the page of a list that a query asks for. Raises RefusedError with 422."""
    number = read_number(call.query, "page", 1, _PAGES, _WRONG)
    per_page = read_number(call.query, "perPage", 30, _PER_PAGE, _WRONG)
    shown = items[(number - 1) * per_page : number * per_page]
    document = {
        "data": [show(item) for item in shown],
        "page": number,
        "perPage": per_page,
        "total": len(items),
        "totalPages": -(-len(items) // per_page),
        "meta": _meta(),
    }
    # By the types of the SDKs, lists lack the `success` that all other answers have.
    return json_response(HTTPStatus.OK, document)


def success(data: dict[str, Any], status: int = HTTPStatus.OK) -> Response:
    """Return an answer of every other kind."""
    return json_response(status, {"success": True, "data": data, "meta": _meta()})


def _meta() -> dict[str, str]:
    return {"requestId": f"req_{secrets.token_hex(12)}"}


def webhook(enrolled: Webhook) -> dict[str, Any]:
    """Return a webhook as it is shown on its own."""
    return {
        "id": enrolled.id,
        "uuid": enrolled.uuid,
        "name": enrolled.name,
        "url": enrolled.url,
        "events": list(enrolled.events),
        "allEvents": enrolled.all_events,
        "enabled": enrolled.enabled,
        "createdAt": instant(enrolled.created_at),
    }


def suppression(entry: Suppression) -> dict[str, Any]:
    """Return a suppression as lists show it."""
    return {
        "id": entry.id,
        "address": entry.address,
        "reason": entry.reason,
        "createdAt": instant(entry.created_at),
    }


def instant(at: datetime) -> str:
    """Return a time, to the millisecond."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"

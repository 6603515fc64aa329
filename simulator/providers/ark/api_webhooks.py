"""The webhooks that are enrolled with Ark."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any

from simulator.providers.api.routes import RefusedError, is_endpoint
from simulator.providers.ark.api_samples import EVENTS

_FIRST_ID = 456
_WRONG = HTTPStatus.UNPROCESSABLE_ENTITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An enrolled endpoint, and the events that it is for."""

    id: str
    uuid: str
    created_at: datetime
    name: str
    url: str
    events: tuple[str, ...] = ()
    all_events: bool = False
    enabled: bool = True


class Webhooks:
    """All of one tenant. For many threads."""

    def __init__(self) -> None:
        self._webhooks: dict[str, Webhook] = {}
        self._next = _FIRST_ID
        self._lock = Lock()

    def all(self) -> list[Webhook]:
        """Return them in the order in which they were made."""
        with self._lock:
            return list(self._webhooks.values())

    def at(self, url: str) -> Webhook | None:
        """Return the one that is enrolled there."""
        return next((webhook for webhook in self.all() if webhook.url == url), None)

    def get(self, webhook_id: str) -> Webhook:
        """Return the one of that id. Raises RefusedError with 404."""
        with self._lock:
            webhook = self._webhooks.get(webhook_id)
        if webhook is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "webhook not found")
        return webhook

    def create(self, given: Mapping[str, Any]) -> Webhook:
        """Return a new one from the fields of a request. Raises RefusedError with 422."""
        for name in ("name", "url"):
            if name not in given:
                raise RefusedError(_WRONG, f"{name} is required")
        fields = _read_fields(given)
        with self._lock:
            webhook = Webhook(id=str(self._next), uuid=str(uuid.uuid4()), created_at=datetime.now(UTC), **fields)
            self._next += 1
            self._webhooks[webhook.id] = webhook
        return webhook

    def change(self, webhook_id: str, given: Mapping[str, Any]) -> Webhook:
        """Return the one of that id with other fields. Raises RefusedError with 404 or 422."""
        webhook = replace(self.get(webhook_id), **_read_fields(given))
        with self._lock:
            self._webhooks[webhook_id] = webhook
        return webhook

    def delete(self, webhook_id: str) -> None:
        """Remove it. Raises RefusedError with 404."""
        self.get(webhook_id)
        with self._lock:
            self._webhooks.pop(webhook_id, None)


def _read_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    # null stands for what was not given: the types of the SDKs allow it for all but name and url.
    fields: dict[str, Any] = {}
    for name, key, wanted in _FLAGS:
        if given.get(name) is not None:
            fields[key] = _require(name, given[name], wanted, isinstance(given[name], bool))
    if given.get("events") is not None:
        events = given["events"]
        known = isinstance(events, list) and all(event in EVENTS for event in events)
        fields["events"] = tuple(_require("events", events, f"some of {', '.join(EVENTS)}", known))
    if "name" in given:
        name = given["name"]
        fields["name"] = _require("name", name, "a text", isinstance(name, str) and bool(name))
    if "url" in given:
        fields["url"] = _require("url", given["url"], "an HTTPS address", is_endpoint(given["url"]))
    return fields


_FLAGS = (("allEvents", "all_events", "a boolean"), ("enabled", "enabled", "a boolean"))


def _require(name: str, value: Any, wanted: str, held: bool) -> Any:
    if not held:
        raise RefusedError(_WRONG, f"{name} must be {wanted}")
    return value

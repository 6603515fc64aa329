"""The API of Ark: webhooks, their deliveries, replaying them, and suppressions.

Written from arkhq.io/docs/api-reference and the types of its SDKs. Paths begin with `/tenants/{tenantId}` or,
as they did in earlier editions, with nothing. The platform's own webhooks are left out.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from simulator.deliveries import Delivery, DeliveryLog
from simulator.providers.api.account import Account, milliseconds, text_of
from simulator.providers.api.routes import RefusedError, Route, read_number, read_object
from simulator.providers.ark import api_answers, api_samples, api_suppressions
from simulator.providers.ark.api_suppressions import Suppressions
from simulator.providers.ark.api_webhooks import Webhook, Webhooks
from simulator.providers.ark.webhooks import Ark, event_of
from simulator.serving import Call, Response

RETRIES = 5
"""How often a failed delivery is repeated without being asked: "over ~3 days", the number is not documented."""

_WRONG = HTTPStatus.UNPROCESSABLE_ENTITY
_INSTANTS = range(1 << 40)


class ArkAccount(Account):
    """The account of one tenant.

    What was sent to test a webhook is not among its deliveries; whether it should be is not documented.
    """

    BASE = "/v1"
    dialect: Ark

    def __init__(self, dialect: Ark) -> None:
        super().__init__(dialect, DeliveryLog(self._webhook_of, retries=RETRIES))
        self.webhooks = Webhooks()
        self.suppressions = Suppressions()
        self._salt = secrets.token_hex(8)

    def enrol(self, url: str) -> str:
        """Return the id of a webhook for all events there."""
        known = self.webhooks.at(url)
        return (known or self.webhooks.create({"name": "Enrolled", "url": url, "allEvents": True})).id

    def _webhook_of(self, url: str) -> str | None:
        webhook = self.webhooks.at(url)
        return webhook.id if webhook else None

    def retry(self) -> list[Delivery]:
        """Return what time would bring: the next attempt of each failed delivery that has one left, made now."""
        return [self._repeat(delivery) for delivery in self.log.waiting()]

    def _repeat(self, delivery: Delivery) -> Delivery:
        request, began_at, exchange = self._post(delivery.url, delivery.request.body)
        return self.log.record(
            url=delivery.url,
            request=request,
            events=delivery.events,
            created_at=began_at,
            exchange=exchange,
            attempt=delivery.attempt + 1,
            repeats=delivery,
        )

    def delivery_id(self, delivery: Delivery) -> str:
        """Return the name in the API."""
        return f"whr_{hashlib.sha256(f'{self._salt}/{delivery.number}'.encode()).hexdigest()[:12]}"

    def _routes(self) -> Sequence[Route]:
        webhook, deliveries = "/webhooks/{webhook_id}", "/webhooks/{webhook_id}/deliveries"
        return (
            Route("POST", "/webhooks", self._create_webhook),
            Route("GET", "/webhooks", self._list_webhooks),
            Route("GET", webhook, self._get_webhook),
            Route("PATCH", webhook, self._change_webhook),
            Route("DELETE", webhook, self._delete_webhook),
            Route("POST", f"{webhook}/test", self._test),
            Route("GET", deliveries, self._list_deliveries),
            Route("GET", f"{deliveries}/{{delivery_id}}", self._get_delivery),
            Route("POST", f"{deliveries}/{{delivery_id}}/replay", self._replay),
            Route("GET", "/suppressions", self._list_suppressions),
            Route("POST", "/suppressions", self._add_suppression),
            Route("POST", "/suppressions/bulk", self._add_suppressions),
            Route("GET", "/suppressions/{email}", self._get_suppression),
            Route("DELETE", "/suppressions/{email}", self._remove_suppression),
        )

    def _locate(self, path: str) -> str:
        if not path.startswith("/tenants/"):
            return path
        own = f"/tenants/{quote(self.dialect.tenant_id, safe='')}/"
        if not path.startswith(own):
            raise RefusedError(HTTPStatus.NOT_FOUND, "tenant not found")
        return path.removeprefix(own.rstrip("/"))

    def _admit(self, call: Call, path: str) -> None:  # noqa: ARG002
        if call.headers.get("authorization") != f"Bearer {self.dialect.api_key}":
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "invalid API key")

    def _refusal(self, refused: RefusedError) -> Response:
        return api_answers.refusal(refused)

    def _create_webhook(self, call: Call) -> Response:
        return api_answers.success(
            api_answers.webhook(self.webhooks.create(read_object(call, _WRONG))), HTTPStatus.CREATED
        )

    def _list_webhooks(self, _call: Call) -> Response:
        shown = ("id", "name", "url", "enabled", "events")
        documents = [api_answers.webhook(webhook) for webhook in self.webhooks.all()]
        return api_answers.success({"webhooks": [{name: document[name] for name in shown} for document in documents]})

    def _get_webhook(self, _call: Call, webhook_id: str) -> Response:
        return api_answers.success(api_answers.webhook(self.webhooks.get(webhook_id)))

    def _change_webhook(self, call: Call, webhook_id: str) -> Response:
        return api_answers.success(api_answers.webhook(self.webhooks.change(webhook_id, read_object(call, _WRONG))))

    def _delete_webhook(self, _call: Call, webhook_id: str) -> Response:
        self.webhooks.delete(webhook_id)
        return api_answers.success({"message": "Webhook deleted successfully"})

    def _test(self, call: Call, webhook_id: str) -> Response:
        webhook = self.webhooks.get(webhook_id)
        event = read_object(call, _WRONG).get("event")
        if event not in api_samples.EVENTS:
            raise RefusedError(_WRONG, f"event must be one of {', '.join(api_samples.EVENTS)}")
        _, _, exchange = self._post(webhook.url, api_samples.body(self.dialect, event, datetime.now(UTC)))
        answered = exchange.status is not None
        return api_answers.success(
            {
                "event": event,
                "statusCode": exchange.status,
                "success": exchange.succeeded,
                "duration": milliseconds(exchange),
                "body": text_of(exchange) if answered else None,
                "error": None if answered else "The endpoint did not answer",
            }
        )

    def _list_deliveries(self, call: Call, webhook_id: str) -> Response:
        webhook = self.webhooks.get(webhook_id)
        is_wanted = _read_filter(call)
        # That the newest come first is usual, and not documented.
        found = [one for one in self.log.newest_first() if one.webhook == webhook.id and is_wanted(one)]
        return api_answers.page(call, found, self._summary)

    def _get_delivery(self, _call: Call, webhook_id: str, delivery_id: str) -> Response:
        webhook = self.webhooks.get(webhook_id)
        delivery = self._find(webhook, delivery_id)
        exchange = delivery.exchange
        answered = exchange.status is not None
        return api_answers.success(
            self._summary(delivery)
            | {
                "webhookName": webhook.name,
                "request": {"headers": delivery.request.headers, "payload": json.loads(delivery.request.body)},
                "response": {"statusCode": exchange.status, "body": text_of(exchange) if answered else None},
            }
        )

    def _find(self, webhook: Webhook, delivery_id: str) -> Delivery:
        for delivery in self.log.newest_first():
            if delivery.webhook == webhook.id and self.delivery_id(delivery) == delivery_id:
                return delivery
        raise RefusedError(HTTPStatus.NOT_FOUND, "delivery not found")

    def _summary(self, delivery: Delivery) -> dict[str, Any]:
        return {
            "id": self.delivery_id(delivery),
            "webhookId": delivery.webhook,
            "event": event_of(delivery.request.body),
            "url": delivery.url,
            "statusCode": delivery.exchange.status,
            "success": delivery.exchange.succeeded,
            "attempt": delivery.attempt,
            "willRetry": self.log.will_retry(delivery),
            "timestamp": api_answers.instant(delivery.created_at),
        }

    def _replay(self, _call: Call, webhook_id: str, delivery_id: str) -> Response:
        webhook = self.webhooks.get(webhook_id)
        original = self._find(webhook, delivery_id)
        if not webhook.enabled:
            raise RefusedError(_WRONG, "the webhook must be enabled to replay deliveries")
        body = self.dialect.restamp(original.request.body, datetime.now(UTC))
        request, began_at, exchange = self._post(webhook.url, body)
        delivery = self.log.record(
            url=webhook.url,
            request=request,
            events=original.events,
            created_at=began_at,
            exchange=exchange,
            repeats=original,
            manual=True,
        )
        return api_answers.success(
            {
                "success": exchange.succeeded,
                "originalDeliveryId": delivery_id,
                "newDeliveryId": self.delivery_id(delivery),
                "statusCode": exchange.status,
                "duration": milliseconds(exchange),
                "timestamp": api_answers.instant(began_at),
            }
        )

    def _list_suppressions(self, call: Call) -> Response:
        return api_answers.page(call, self.suppressions.all(), api_answers.suppression)

    def _add_suppression(self, call: Call) -> Response:
        suppression, is_new = self.suppressions.put(*api_suppressions.read(read_object(call, _WRONG)))
        return api_answers.success(
            api_answers.suppression(suppression), HTTPStatus.CREATED if is_new else HTTPStatus.OK
        )

    def _add_suppressions(self, call: Call) -> Response:
        given = read_object(call, _WRONG).get("suppressions")
        if not isinstance(given, list) or not given:
            raise RefusedError(_WRONG, "suppressions must be a list that is not empty")
        news, failed = [], 0
        for one in given:
            try:
                news.append(self.suppressions.put(*api_suppressions.read(one))[1])
            except RefusedError:
                failed += 1
        added = sum(news)
        return api_answers.success(
            {"totalRequested": len(given), "added": added, "updated": len(news) - added, "failed": failed}
        )

    def _get_suppression(self, _call: Call, email: str) -> Response:
        found = self.suppressions.find(email)
        if found is None:
            return api_answers.success({"address": email, "suppressed": False})
        more = {"createdAt": api_answers.instant(found.created_at), "reason": found.reason}
        return api_answers.success({"address": email, "suppressed": True, **more})

    def _remove_suppression(self, _call: Call, email: str) -> Response:
        self.suppressions.remove(email)
        return api_answers.success({"message": "Address removed from the suppression list"})


def _read_filter(call: Call) -> Callable[[Delivery], bool]:
    """Return which deliveries a query asks for. Raises RefusedError with 422."""
    event, success = call.query.get("event"), call.query.get("success")
    if event is not None and event not in api_samples.EVENTS:
        raise RefusedError(_WRONG, f"event must be one of {', '.join(api_samples.EVENTS)}")
    if success not in (None, "true", "false"):
        raise RefusedError(_WRONG, "success must be true or false")
    after = read_number(call.query, "after", 0, _INSTANTS, _WRONG)
    before = read_number(call.query, "before", _INSTANTS[-1], _INSTANTS, _WRONG)

    def is_wanted(delivery: Delivery) -> bool:
        return (
            after < delivery.created_at.timestamp() < before
            and (success is None or delivery.exchange.succeeded is (success == "true"))
            and (event is None or event_of(delivery.request.body) == event)
        )

    return is_wanted

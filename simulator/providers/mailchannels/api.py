"""The API of MailChannels: enrolments, batches that were sent, sending them again, and the suppression list.

Written from its OpenAPI document and docs.mailchannels.com/email-api (webhooks, webhook-retries).
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from threading import Lock
from typing import Any

from simulator.connection import Exchange
from simulator.deliveries import Delivery, DeliveryLog
from simulator.providers.api import periods
from simulator.providers.api.account import Account, milliseconds, text_of
from simulator.providers.api.routes import RefusedError, Route, is_endpoint, json_response, read_number, read_object
from simulator.providers.api.suppression_list import SuppressionList
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.serving import Call, Response

_BAD = HTTPStatus.BAD_REQUEST
_LONGEST_URL = 8000
_LONGEST_REQUEST_ID = 28
_LONGEST_PERIOD = timedelta(days=31)
_DEFAULT_PERIOD = timedelta(days=3)
_STATUSES = {
    "1xx": "1xx_response",
    "2xx": "2xx_response",
    "3xx": "3xx_response",
    "4xx": "4xx_response",
    "5xx": "5xx_response",
    "no_response": "no_response",
}
"""What the filter calls them, and what a batch does."""


class AfterResend(StrEnum):
    """How the list shows a batch that was resent. Undocumented; a client must accept all."""

    SETTLED = "settled"
    """The batch with its new outcome."""
    UNCHANGED = "unchanged"
    """The batch as it was: failed for ever."""
    ADDED = "added"
    """The batch as it was, and another one with the new outcome."""


class MailChannelsAccount(Account):
    """The account of one handle.

    Batches that were sent to validate an enrolment are not listed; whether they should be is not documented.
    """

    BASE = "/tx/v1"
    dialect: MailChannels

    def __init__(self, dialect: MailChannels) -> None:
        # Ids are 64 bits wide: these fit into no double and into no other account.
        super().__init__(dialect, DeliveryLog(self._webhook_of, first=2**53 + secrets.randbelow(2**53)))
        self.suppressions = SuppressionList()
        self.after_resend = AfterResend.SETTLED
        self._webhooks: list[str] = []
        self._lock = Lock()

    @property
    def webhooks(self) -> Sequence[str]:
        """The enrolled URLs."""
        with self._lock:
            return tuple(self._webhooks)

    def enrol(self, url: str) -> str:
        """Return the URL itself: a webhook has no other name."""
        with self._lock:
            if url not in self._webhooks:
                self._webhooks.append(url)
        return url

    def _webhook_of(self, url: str) -> str | None:
        return url if url in self.webhooks else None

    def _routes(self) -> Sequence[Route]:
        return (
            Route("POST", "/webhook", self._enrol),
            Route("GET", "/webhook", self._list_webhooks),
            Route("DELETE", "/webhook", self._delete_webhooks),
            Route("POST", "/webhook/validate", self._validate),
            Route("GET", "/webhook-batch", self._list_batches),
            Route("POST", "/webhook-batch/{batch_id}/resend", self._resend),
            Route("GET", "/suppression-list", self._list_suppressions),
            Route("POST", "/suppression-list", self._add_suppressions),
            Route("DELETE", "/suppression-list/recipients/{recipient}", self._remove_suppression),
        )

    def _locate(self, path: str) -> str:
        return path

    def _admit(self, call: Call, path: str) -> None:
        if call.headers.get("x-api-key") == self.dialect.api_key:
            return
        # An edition of the OpenAPI document had resends authorized by the handle, and by no key.
        if path.endswith("/resend") and call.headers.get("x-customer-handle") == self.dialect.handle:
            return
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "invalid API key")

    def _refusal(self, refused: RefusedError) -> Response:
        # This form is documented for 400; the others are taken to have the same.
        return json_response(refused.status, {"errors": [str(refused)]}, refused.headers)

    def _enrol(self, call: Call) -> Response:
        url = call.query.get("endpoint", "")
        if not is_endpoint(url) or len(url) > _LONGEST_URL:
            raise RefusedError(_BAD, f"endpoint must be a URL of at most {_LONGEST_URL} letters")
        with self._lock:
            if url in self._webhooks:
                raise RefusedError(HTTPStatus.CONFLICT, "endpoint is already enrolled")
            self._webhooks.append(url)
        return Response(status=HTTPStatus.CREATED)

    def _list_webhooks(self, _call: Call) -> Response:
        return json_response(HTTPStatus.OK, [{"webhook": url} for url in self.webhooks])

    def _delete_webhooks(self, _call: Call) -> Response:
        with self._lock:
            self._webhooks.clear()
        return Response(status=HTTPStatus.NO_CONTENT)

    def _validate(self, call: Call) -> Response:
        request_id = read_object(call, _BAD).get("request_id", "")
        if not isinstance(request_id, str) or len(request_id) > _LONGEST_REQUEST_ID:
            raise RefusedError(_BAD, f"request_id must be a text of at most {_LONGEST_REQUEST_ID} letters")
        if not self.webhooks:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no webhooks are enrolled")
        results = [self._test(url, request_id) for url in self.webhooks]
        passed = all(result["result"] == "passed" for result in results)
        return json_response(HTTPStatus.OK, {"all_passed": passed, "results": results})

    def _test(self, url: str, request_id: str) -> dict[str, Any]:
        _, _, exchange = self._post(url, self.dialect.test_body(datetime.now(UTC), request_id))
        answered = {"status": exchange.status, "body": text_of(exchange)} if exchange.status else None
        return {"result": "passed" if exchange.succeeded else "failed", "webhook": url, "response": answered}

    def _list_batches(self, call: Call) -> Response:
        now = datetime.now(UTC)
        period = periods.read_bounded(call.query, now, default=_DEFAULT_PERIOD, longest=_LONGEST_PERIOD)
        statuses = _read_statuses(call.query)
        limit = read_number(call.query, "limit", 500, range(1, 501), _BAD)
        offset = read_number(call.query, "offset", 0, range(1 << 31), _BAD)
        webhook = call.query.get("webhook")
        found = [
            self._batch(delivery)
            for delivery in self.log.newest_first()  # the order is not documented
            if delivery.created_at in period
            and webhook in (None, delivery.webhook)
            and _status(delivery.exchange) in statuses
        ]
        return json_response(HTTPStatus.OK, {"webhook_batches": found[offset : offset + limit]})

    def _batch(self, delivery: Delivery) -> dict[str, Any]:
        exchange = delivery.exchange
        batch = self._identity(delivery)
        batch |= {"status": _status(exchange), "status_code": exchange.status}
        if exchange.status is not None:
            batch["duration"] = {"value": milliseconds(exchange), "unit": "milliseconds"}
        return batch

    def _identity(self, delivery: Delivery) -> dict[str, Any]:
        return {
            "batch_id": delivery.number,
            "customer_handle": self.dialect.handle,
            "webhook": delivery.webhook,
            # Go's clocks have nine digits, ours six; the rest is made up.
            "created_at": f"{delivery.created_at:%Y-%m-%dT%H:%M:%S.%f}626Z",
            "event_count": delivery.events,
        }

    def _resend(self, _call: Call, batch_id: str) -> Response:
        if not re.fullmatch(r"[0-9]{1,19}", batch_id) or int(batch_id) >= 2**63:
            raise RefusedError(_BAD, "batch_id must be an integer of 64 bits")
        delivery = self.log.find(int(batch_id))
        if delivery is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such batch")
        request, began_at, exchange = self._post(delivery.url, delivery.request.body)
        if self.after_resend is AfterResend.SETTLED:
            self.log.settle(delivery.number, exchange)
        if self.after_resend is AfterResend.ADDED:
            delivery = self.log.record(
                url=delivery.url,
                request=request,
                events=delivery.events,
                created_at=began_at,
                exchange=exchange,
                repeats=delivery,
                manual=True,
            )
        answered = exchange.status is not None
        document = self._identity(delivery) | {
            "status_code": exchange.status,
            "duration_in_ms": milliseconds(exchange) if answered else None,
        }
        return json_response(HTTPStatus.OK, document)

    def _list_suppressions(self, call: Call) -> Response:
        return json_response(HTTPStatus.OK, {"suppression_list": self.suppressions.select(call.query)})

    def _add_suppressions(self, call: Call) -> Response:
        self.suppressions.add(read_object(call, _BAD))
        return Response(status=HTTPStatus.CREATED)

    def _remove_suppression(self, call: Call, recipient: str) -> Response:
        self.suppressions.remove(recipient, call.query.get("source", "api"))
        return Response(status=HTTPStatus.NO_CONTENT)


def _status(exchange: Exchange) -> str:
    return f"{exchange.status // 100}xx_response" if exchange.status else "no_response"


def _read_statuses(query: Mapping[str, str]) -> set[str]:
    asked = query["statuses"].split(",") if "statuses" in query else list(_STATUSES)
    if len(set(asked)) < len(asked) or not set(asked) <= _STATUSES.keys():
        raise RefusedError(_BAD, f"statuses must be some of {', '.join(_STATUSES)}, each once")
    return {_STATUSES[one] for one in asked}

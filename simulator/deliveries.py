"""A provider's log of the webhooks that it sent: it can list and resend them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock

from simulator.connection import Exchange
from simulator.providers.base import Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One POST to an enrolled endpoint.

    `webhook` names the endpoint as the provider does: by its URL, or an id. `events` is the number of events in the
    body. `repeats` is the number of the delivery that this one repeats; `manual` says that a person asked for it.
    """

    number: int
    webhook: str
    url: str
    request: Signed
    events: int
    created_at: datetime
    exchange: Exchange
    attempt: int = 1
    repeats: int | None = None
    manual: bool = False


class DeliveryLog:
    """The deliveries of one account, for many threads.

    `retries` is how often the provider repeats a failed delivery unasked.
    """

    def __init__(self, webhook_of: Callable[[str], str | None], *, first: int = 1, retries: int = 0) -> None:
        self.webhook_of = webhook_of
        """The webhook that is enrolled at a URL; None if there is none."""
        self._next = first
        self._retries = retries
        self._deliveries: dict[int, Delivery] = {}
        self._lock = Lock()

    def record(
        self,
        *,
        url: str,
        request: Signed,
        events: int,
        created_at: datetime,
        exchange: Exchange,
        attempt: int = 1,
        repeats: Delivery | None = None,
        manual: bool = False,
    ) -> Delivery:
        """Remember one more."""
        known_by = repeats.webhook if repeats else ""
        webhook = self.webhook_of(url) or known_by
        with self._lock:
            delivery = Delivery(
                number=self._next,
                webhook=webhook,
                url=url,
                request=request,
                events=events,
                created_at=created_at,
                exchange=exchange,
                attempt=attempt,
                repeats=repeats.number if repeats else None,
                manual=manual,
            )
            self._next += 1
            self._deliveries[delivery.number] = delivery
        return delivery

    def settle(self, number: int, exchange: Exchange) -> None:
        """Replace the outcome of a delivery by a later one."""
        with self._lock:
            self._deliveries[number] = replace(self._deliveries[number], exchange=exchange)

    def find(self, number: int) -> Delivery | None:
        """Return the delivery with this number."""
        with self._lock:
            return self._deliveries.get(number)

    def newest_first(self) -> list[Delivery]:
        """Return all deliveries, newest first."""
        with self._lock:
            return sorted(self._deliveries.values(), key=lambda one: (one.created_at, one.number), reverse=True)

    def failed(self) -> list[Delivery]:
        """Return the deliveries that were not answered with 2xx, newest first."""
        return [delivery for delivery in self.newest_first() if not delivery.exchange.succeeded]

    def will_retry(self, delivery: Delivery) -> bool:
        """Return whether the provider makes another attempt after this one without being asked."""
        return not delivery.exchange.succeeded and not delivery.manual and delivery.attempt <= self._retries

    def waiting(self) -> list[Delivery]:
        """Return the deliveries that the provider will attempt again, oldest first."""
        everything = self.newest_first()
        repeated = {delivery.repeats for delivery in everything if not delivery.manual}
        return [one for one in reversed(everything) if self.will_retry(one) and one.number not in repeated]

    def age(self, by: timedelta) -> None:
        """Let all that was recorded until now have happened that much earlier."""
        with self._lock:
            for number, delivery in self._deliveries.items():
                self._deliveries[number] = replace(delivery, created_at=delivery.created_at - by)

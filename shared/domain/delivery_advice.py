"""What to do about a delivery: by its latest attempt, or by what keeps it from having one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from shared.domain import deliveries
from shared.domain.deliveries import Advice, DeliveryStatus
from shared.domain.subscriptions import SubscriptionState

_NO_ATTEMPT = "no attempt yet"
_QUARANTINED: Final = Advice(
    shows=_NO_ATTEMPT,
    meaning="The spam score of the mail that came in is over the limit, so a person must look at it first.",
    action="Look at the change; replay the delivery to release it, or leave it.",
)
_WAITING: Final[Mapping[SubscriptionState, Advice]] = {
    SubscriptionState.ACTIVE: Advice(
        shows=_NO_ATTEMPT,
        meaning="It is about to be sent, or waits until its endpoint may be called again.",
        action="Wait. If nothing happens, see the health of the subscription, and whether a deliverer runs.",
    ),
    SubscriptionState.PAUSED: Advice(
        shows=_NO_ATTEMPT, meaning="The subscription is paused.", action="Resume the subscription."
    ),
    SubscriptionState.DISABLED: Advice(
        shows=_NO_ATTEMPT,
        meaning="The subscription is disabled.",
        action="See why it is disabled, mend that, and resume the subscription.",
    ),
}
_REMOVED: Final = "Nothing: its subscription was removed."
_RESUME = "The subscription is {state}: resume it."


def advise(
    status: DeliveryStatus, *, last_http_status: int | None, subscription: SubscriptionState, removed: bool
) -> Advice:
    """What the latest attempt shows, what it usually means and what to do. `last_http_status`: None before any."""
    if status is DeliveryStatus.QUARANTINED:
        found = _QUARANTINED
    elif last_http_status is None:
        found = _WAITING[subscription]
    else:
        found = deliveries.advise(last_http_status)
        if status is not DeliveryStatus.DELIVERED and subscription is not SubscriptionState.ACTIVE:
            found = replace(found, action=f"{found.action} {_RESUME.format(state=subscription)}")
    return replace(found, action=_REMOVED) if removed else found

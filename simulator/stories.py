"""The stories of the simulator, and how common each is."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from shared.vocabulary import Classification, EventType, Status
from simulator import replies
from simulator.mail import Happening, Message
from simulator.story import Fate, Story, Teller, Telling

DELIVERED = Fate(status=Status.DELIVERED)


def read(message: Message, rng: random.Random) -> Story:
    """All goes well: delivered, opened, and a link is followed."""
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.DELIVERED, 3)
    telling.add(EventType.OPENED, rng.randint(60, 3600))
    telling.add(EventType.READ, 3610)
    telling.add(EventType.CLICKED, 3620)
    return telling.end("read", replace(DELIVERED, opened=True, clicked=True))


def delivered(message: Message, rng: random.Random) -> Story:
    """Accepted by the recipient's server; no further events."""
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.DELIVERED, rng.randint(2, 30))
    return telling.end("delivered", DELIVERED)


def under_way(message: Message, rng: random.Random) -> Story:
    """Queued, and silence since."""
    telling = Telling(message, rng)
    telling.add(EventType.QUEUED, 0)
    return telling.end("under way", Fate(status=Status.QUEUED), EventType.QUEUED)


def hard_bounce(message: Message, rng: random.Random) -> Story:
    """The recipient's server refuses for good."""
    reply = rng.choice(replies.PERMANENT)
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.BOUNCED, 4, reply=reply)
    return telling.end("hard bounce", Fate(status=Status.BOUNCED, classification=reply.classification))


def soft_bounce_then_delivered(message: Message, rng: random.Random) -> Story:
    """Refused for now, once or twice, and accepted at the next attempt."""
    telling = Telling(message, rng)
    telling.begin()
    for attempt in range(rng.randint(1, 2)):
        telling.add(EventType.DEFERRED, 5 + 600 * attempt, reply=rng.choice(replies.TEMPORARY))
    telling.add(EventType.DELIVERED, 1900)
    return telling.end("soft bounce, then delivered", DELIVERED)


def still_trying(message: Message, rng: random.Random) -> Story:
    """Refused for now; the provider will try again."""
    reply = rng.choice(replies.TEMPORARY)
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.DEFERRED, 5, reply=reply)
    return telling.end("still trying", Fate(status=Status.DEFERRED, classification=reply.classification))


def soft_bounces_then_failed(message: Message, rng: random.Random) -> Story:
    """Refused for now until the provider gives up, which it reports by a separate event."""
    return _given_up(message, rng, "soft bounces, then failed", EventType.FAILED, Status.FAILED)


def soft_bounces_then_bounced(message: Message, rng: random.Random) -> Story:
    """Refused for now until the provider gives up, and calls it a bounce."""
    return _given_up(message, rng, "soft bounces, then bounced", EventType.BOUNCED, Status.BOUNCED)


def _given_up(message: Message, rng: random.Random, name: str, last_word: EventType, status: Status) -> Story:
    telling = Telling(message, rng)
    telling.begin()
    for attempt in range(3):
        telling.add(EventType.DEFERRED, 5 + 900 * attempt, reply=replies.MAILBOX_FULL)
    telling.add(last_word, 3000, reply=replies.MAILBOX_STILL_FULL)
    return telling.end(name, Fate(status=status, classification=Classification.MAILBOX_FULL))


def dropped(message: Message, rng: random.Random) -> Story:
    """The provider does not even try: the address is on its suppression list."""
    telling = Telling(message, rng)
    telling.add(EventType.QUEUED, 0)
    telling.add(EventType.REJECTED, 1, reply=replies.SUPPRESSED)
    return telling.end("dropped", Fate(status=Status.REJECTED))


def complaint(message: Message, rng: random.Random) -> Story:
    """Delivered, and reported as spam."""
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.DELIVERED, 3)
    telling.add(EventType.COMPLAINED, 3000)
    return telling.end("complaint", replace(DELIVERED, complained=True))


def unsubscribe(message: Message, rng: random.Random) -> Story:
    """Delivered and opened; the recipient wants no more of it."""
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.DELIVERED, 3)
    telling.add(EventType.OPENED, 200)
    telling.add(EventType.UNSUBSCRIBED, 230)
    return telling.end("unsubscribe", replace(DELIVERED, opened=True, unsubscribed=True))


def bounce_after_delivery(message: Message, rng: random.Random) -> Story:
    """Accepted by the first server, and sent back by one behind it an hour later."""
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.DELIVERED, 3)
    telling.add(EventType.BOUNCED, 3600, reply=replies.NO_SUCH_USER, after_delivery=True)
    return telling.end("bounce after delivery", Fate(status=Status.BOUNCED))


def held(message: Message, rng: random.Random) -> Story:
    """The provider keeps it back until a person has looked."""
    telling = Telling(message, rng)
    telling.add(EventType.QUEUED, 0)
    telling.add(EventType.HELD, 2)
    return telling.end("held", Fate(status=Status.HELD))


def rate_limited(message: Message, rng: random.Random) -> Story:
    """Over the allowance, so sent later."""
    telling = Telling(message, rng)
    telling.add(EventType.QUEUED, 0)
    telling.add(EventType.RATE_LIMITED, 1)
    telling.add(EventType.SENT, 60)
    telling.add(EventType.DELIVERED, 63)
    return telling.end("rate limited, then delivered", DELIVERED)


def answered(message: Message, rng: random.Random) -> Story:
    """Delivered; a machine answers, and then a person."""
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.DELIVERED, 3)
    telling.add(EventType.AUTORESPONDED, 8)
    telling.add(EventType.REPLIED, 1800)
    return telling.end("answered", DELIVERED)


def different_fates(message: Message, rng: random.Random) -> Story:
    """Several recipients: the first opens it, the second does not exist, all others get it late."""
    first, second, *others = message.recipients
    telling = Telling(message, rng)
    telling.begin()
    telling.add(EventType.DELIVERED, 3, to=(first,))
    telling.add(EventType.BOUNCED, 3, to=(second,), reply=replies.NO_SUCH_USER)
    telling.add(EventType.OPENED, 100, to=(first,))
    fates = {
        first: replace(DELIVERED, opened=True),
        second: Fate(status=Status.BOUNCED, classification=Classification.INVALID_RECIPIENT),
    }
    for other in others:
        telling.add(EventType.DEFERRED, 4, to=(other,), reply=replies.GREYLISTED)
        telling.add(EventType.DELIVERED, 700, to=(other,))
        fates[other] = DELIVERED
    return telling.end("several recipients", fates)


def nameless_delivery(message: Message, rng: random.Random) -> Story:
    """The delivery names no recipient, so it holds for all that are known from elsewhere."""
    telling = Telling(message, rng)
    telling.add(EventType.QUEUED, 0)
    telling.add(EventType.DELIVERED, 5, to=())
    return telling.end("delivery that names nobody", DELIVERED, EventType.QUEUED)


def inbound(message: Message, rng: random.Random) -> Story:
    """Somebody writes to us."""
    telling = Telling(message, rng)
    telling.add(EventType.INBOUND, 2)
    return telling.end("inbound mail", Fate(status=None))


def _without_message(kind: EventType) -> Callable[[datetime], Story]:
    def tell(at: datetime) -> Story:
        happening = Happening(kind=kind, at=at)
        return Story(
            name=kind.replace("_", " "),
            message=None,
            happenings=(happening,),
            fates={},
            needs=frozenset({kind}),
        )

    return tell


TELLERS: Mapping[Teller, int] = {
    read: 10,
    delivered: 10,
    under_way: 1,
    hard_bounce: 3,
    soft_bounce_then_delivered: 3,
    still_trying: 1,
    soft_bounces_then_failed: 1,
    soft_bounces_then_bounced: 1,
    dropped: 1,
    complaint: 1,
    unsubscribe: 1,
    bounce_after_delivery: 1,
    held: 1,
    rate_limited: 1,
    answered: 1,
    different_fates: 3,
    nameless_delivery: 1,
    inbound: 10,
}
"""Every story, and how many of each there are in a mixed crowd."""

RECIPIENTS: Mapping[Teller, int] = {different_fates: 3, nameless_delivery: 2}
"""The number of recipients per story; 1 by default."""

NOTICES: Mapping[EventType, Callable[[datetime], Story]] = {
    kind: _without_message(kind)
    for kind in (
        EventType.DOMAIN_DNS_ERROR,
        EventType.SEND_LIMIT_APPROACHING,
        EventType.SEND_LIMIT_EXCEEDED,
        EventType.TEST,
    )
}
"""Stories that concern no message."""

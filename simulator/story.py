"""Stories: what happens to one message from first to last, and where each recipient ends up.

A story states its end, rather than computing it from the events. So Tidings' result is compared with what was meant,
and not with a second implementation of the same rules.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from shared.vocabulary import Classification, EventType, Status
from simulator import replies
from simulator.mail import Happening, Message, Reply, make_message
from simulator.providers.base import Traits

OPTIONAL = frozenset({EventType.QUEUED, EventType.SENT, EventType.OPENED, EventType.READ, EventType.CLICKED})
"""Events that a provider may omit without a different end of the story, unless the story needs them."""

ENDINGS = frozenset({EventType.DELIVERED, EventType.BOUNCED, EventType.FAILED, EventType.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """The expected state of one recipient at the end.

    No status: the message is not ours to deliver. No classification: none is expected, nor any forbidden.
    """

    status: Status | None
    classification: Classification | None = None
    opened: bool = False
    clicked: bool = False
    complained: bool = False
    unsubscribed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The events of one message in order of time, and the expected state of each recipient.

    `needs` are the kinds that the story requires. `message` is None if the events are about no message.
    """

    name: str
    message: Message | None
    happenings: tuple[Happening, ...]
    fates: Mapping[str, Fate]
    needs: frozenset[EventType] = field(default_factory=frozenset)

    @property
    def nameless(self) -> bool:
        """Whether some happening of the message names no recipient."""
        return any(event.message and not event.recipients for event in self.happenings)

    @property
    def needs_times(self) -> bool:
        """Whether the ending depends on which of two happenings came later."""
        return any(
            sum(recipient in event.recipients and event.kind in ENDINGS for event in self.happenings) != 1
            for recipient, fate in self.fates.items()
            if fate.status
        )


class Telling:
    """Collects what happens to one message; times are in seconds since it was submitted."""

    def __init__(self, message: Message, rng: random.Random) -> None:
        self.message = message
        self.rng = rng
        self.happenings: list[Happening] = []
        self.reader = replies.reader(rng)

    def add(
        self,
        kind: EventType,
        after: int,
        *,
        to: tuple[str, ...] | None = None,
        reply: Reply | None = None,
        after_delivery: bool = False,
    ) -> None:
        """Add an event for these recipients, or for all; `()` for none."""
        recipients = self.message.recipients if to is None else to
        seen = kind in (EventType.OPENED, EventType.READ, EventType.CLICKED, EventType.UNSUBSCRIBED)
        host = f"mx1.{recipients[0].rpartition('@')[2]}" if recipients and reply else None
        self.happenings.append(
            Happening(
                kind=kind,
                at=self.message.submitted_at + timedelta(seconds=after),
                message=self.message,
                recipients=recipients,
                reply=reply,
                remote_host=host,
                url=f"https://shop.example/i/{self.message.number}" if kind is EventType.CLICKED else None,
                ip=self.reader.ip if seen else None,
                user_agent=self.reader.user_agent if seen else None,
                after_delivery=after_delivery,
            )
        )

    def begin(self) -> None:
        """Let the provider take the message and hand it to its outbound servers."""
        self.add(EventType.QUEUED, 0)
        self.add(EventType.SENT, 1)

    def end(self, name: str, fates: Fate | Mapping[str, Fate], *needs: EventType) -> Story:
        """Return the story; it requires its kinds that are not optional, and the given ones."""
        if isinstance(fates, Fate):
            fates = dict.fromkeys(self.message.recipients, fates)
        happenings = tuple(sorted(self.happenings, key=lambda event: event.at))
        needed = {event.kind for event in happenings} - OPTIONAL
        return Story(
            name=name,
            message=self.message,
            happenings=happenings,
            fates=fates,
            needs=frozenset(needed | set(needs)),
        )


Teller = Callable[[Message, random.Random], Story]

_SAMPLE = make_message(
    random.Random(0),
    0,
    sender="a@shop.example",
    recipients=("b@customer.example", "c@customer.example", "d@customer.example"),
    subject="",
    submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def tellable(teller: Teller, traits: Traits) -> bool:
    """Return whether a provider with these traits can send this story with a certain end."""
    sample = teller(_SAMPLE, random.Random(0))
    return (
        sample.needs <= traits.speaks
        and (traits.nameless or not sample.nameless)
        and (traits.timed or not sample.needs_times)
    )


def fit(story: Story, traits: Traits) -> Story:
    """Return the story without the events that a provider with these traits does not have."""
    fates = {
        recipient: replace(
            fate,
            opened=fate.opened and EventType.OPENED in traits.speaks,
            clicked=fate.clicked and EventType.CLICKED in traits.speaks,
            classification=fate.classification if traits.explains else None,
        )
        for recipient, fate in story.fates.items()
    }
    happenings = tuple(event for event in story.happenings if event.kind in traits.speaks)
    return replace(story, happenings=happenings, fates=fates)


def by_time(stories: Iterable[Story]) -> list[Happening]:
    """Return the events of these stories in the order of their times."""
    return sorted((event for story in stories for event in story.happenings), key=lambda event: event.at)

"""The scenarios: their stories, and the faults on the way. `staging.stage` plays them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator import stories as story_kinds
from simulator.providers.base import Forgery, Traits
from simulator.story import Teller, tellable

ALL_FORGERIES = frozenset(Forgery)
UNTIMELY = frozenset({Forgery.STALE, Forgery.FUTURE})

_WELL: Mapping[Teller, int] = {story_kinds.read: 3, story_kinds.delivered: 1, story_kinds.inbound: 1}
_BADLY: Mapping[Teller, int] = {
    story_kinds.hard_bounce: 4,
    story_kinds.soft_bounce_then_delivered: 3,
    story_kinds.soft_bounces_then_failed: 1,
    story_kinds.soft_bounces_then_bounced: 1,
    story_kinds.bounce_after_delivery: 1,
    story_kinds.dropped: 1,
    story_kinds.different_fates: 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The stories of a scenario and how they are sent.

    `stories` has the weight of each story, and `count` is the default number of messages. `bodies` is the minimum and
    the maximum number of events in a body, if the provider can send more than one. `repeats` is the share of events
    and of whole bodies that are sent twice. `forged` is the share of forged requests, of every kind in `forgeries` at
    least one. `new_keys` are the points, from 0 to 1, at which the provider switches to a new key. With `lenient`,
    whatever a provider cannot do is left out.
    """

    name: str
    summary: str
    stories: Mapping[Teller, int] = field(default_factory=lambda: story_kinds.TELLERS)
    count: int = 50
    bodies: tuple[int, int] = (1, 4)
    shuffled: bool = False
    repeats: float = 0.0
    forgeries: frozenset[Forgery] = frozenset()
    forged: float = 0.0
    new_keys: tuple[float, ...] = ()
    notices: bool = False
    lenient: bool = False

    def obstacle(self, traits: Traits) -> str | None:
        """Return why a provider cannot play this; None if it can."""
        if self.lenient:
            return None
        if self.bodies[0] > traits.events_per_body:
            return "sends one event per request"
        if self.new_keys and not traits.rotates:
            return "has one secret at a time"
        if self.new_keys == (0.0,) and not traits.publishes_keys:
            return "publishes no keys: its secrets are known to the operator, or to nobody"
        if self.forgeries and not self.forgeries & traits.forgeries:
            return "puts no time into its signature"
        if not any(tellable(teller, traits) for teller in self.stories):
            return "has no words for any of its stories"
        return None


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="happy", summary="Everything is delivered, most of it opened and clicked.", stories=_WELL),
        Scenario(
            name="bounce",
            summary="Bounces of every kind, drops, and messages whose recipients fare differently.",
            stories=_BADLY,
        ),
        Scenario(
            name="late-and-duplicate",
            summary="All stories, in no order at all, with events and whole requests repeated.",
            shuffled=True,
            repeats=0.3,
        ),
        Scenario(
            name="batch",
            summary="Bodies of a thousand events, the most that MailChannels sends in one.",
            count=1000,
            bodies=(1000, 1000),
        ),
        Scenario(
            name="forged",
            summary="Good traffic with forged requests in between, which must leave no trace.",
            stories=_WELL,
            forgeries=ALL_FORGERIES - UNTIMELY,
            forged=0.25,
        ),
        Scenario(
            name="stale",
            summary="Good traffic with requests in between that are signed too long ago, or not yet.",
            stories=_WELL,
            forgeries=UNTIMELY,
            forged=0.25,
        ),
        Scenario(
            name="unknown-key",
            summary="Signed with a key that only the provider's key server knows: kept apart, then verified.",
            new_keys=(0.0,),
        ),
        Scenario(
            name="rotation",
            summary="The provider switches to a new key half way.",
            new_keys=(0.5,),
        ),
        Scenario(
            name="mixed",
            summary="All of these at once.",
            count=200,
            bodies=(1, 20),
            shuffled=True,
            repeats=0.2,
            forgeries=ALL_FORGERIES,
            forged=0.1,
            new_keys=(0.4, 0.8),
            notices=True,
            lenient=True,
        ),
    )
}

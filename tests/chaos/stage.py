"""A provider of the test's own, posting to the house, and what must hold of all it was told 200 about."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from simulator.mail import Happening
from simulator.providers.mailchannels.webhooks import MailChannels
from tests import effects
from tests.chaos import traffic
from tests.chaos.house import House
from tests.chaos.traffic import Acknowledged, Provider


@dataclass
class Stage:
    """A house, and a source in it of which nothing has come yet."""

    house: House
    slug: str
    dialect: MailChannels
    source_id: int

    @cached_property
    def provider(self) -> Provider:
        return Provider(self.dialect, self.house.urls(self.slug))

    def bodies(self, told: Sequence[Happening], *, seed: int = 1) -> list[bytes]:
        return traffic.bodies(self.dialect, told, seed=seed)

    def standing(self, receipts: set[UUID]) -> dict[str, int]:
        """How many of these receipts stand where."""
        rows = self.house.rows(
            "SELECT coalesce(parked.state, CASE WHEN pending.receipt_id IS NULL THEN 'processed' ELSE 'pending' END),"
            " count(*) FROM receipts LEFT JOIN parked_receipts AS parked ON parked.receipt_id = id"
            " LEFT JOIN pending_receipts AS pending ON pending.receipt_id = id WHERE id = ANY(%(ids)s) GROUP BY 1",
            ids=list(receipts),
        )
        return {state: count for state, count in rows}  # noqa: C416 - typed

    def every_acknowledged_event_had_its_effect_once(
        self, told: Sequence[Happening], done: Acknowledged, *, dead: int = 0
    ) -> None:
        """The states are those that the pure fold gives, and no receipt that was answered with 200 is missing."""
        self.house.settle()
        processed = len(done.ids) - dead
        assert self.standing(done.ids) == {"processed": processed, **({"dead": dead} if dead else {})}
        assert self.house.states(self.source_id) == effects.expected(self.source_id, told)
        self.house.nothing_is_doubled()

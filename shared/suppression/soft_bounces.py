"""Judging those whose mail softly bounced again and again.

What is decided is in `shared.suppression.policy.term`, a function of what is known now: the soft bounces, the last
delivery, the last lift by a person. So it does not matter in which order they came to be known.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from shared.suppression import locks as suppression_locks
from shared.suppression import policy as suppression_policy
from shared.suppression import soft_bounce_store, soft_bounce_terms
from shared.suppression.evidence import Told
from shared.suppression.history import Action
from shared.suppression.policy import SuppressionPolicy, Term
from shared.suppression.recipient_hashes import RecipientKeys
from shared.suppression.soft_bounce_store import Bounced, Place
from shared.suppression.soft_bounce_terms import Reversal, Ruling, Standing, Worked

_AGAIN = timedelta(minutes=5)
"""Longer than a batch may take to be written: each of its few statements is ended after half a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Entries that are to be, and entries that are to go."""

    rulings: Sequence[Ruling]
    reversals: Sequence[Reversal]


def decide(
    connection: Connection, policy: SuppressionPolicy, keys: RecipientKeys, places: Collection[Place], now: datetime
) -> Decided:
    """What is to change for these recipients and tenants, by what is known."""
    concerned = soft_bounce_store.concerned(connection, places, policy.soft_bounce.messages)
    cases = _cases(connection, keys, sorted(concerned)) if concerned else []
    # Deliveries are asked for last, and only of the few on whom they have a bearing: that reads all their mail.
    left = [case for case in cases if case.standing or case.term(policy, None)]
    worked = soft_bounce_terms.deliveries(connection, {case.place[0] for case in left}) if left else {}
    outcomes = [case.outcome(policy, worked.get(case.place[0]), now) for case in left]
    return Decided(
        rulings=[outcome for outcome in outcomes if isinstance(outcome, Ruling)],
        reversals=[outcome for outcome in outcomes if isinstance(outcome, Reversal)],
    )


def _cases(connection: Connection, keys: RecipientKeys, places: Sequence[Place]) -> list["_Case"]:
    hashed = [keys.of_address(recipient) for recipient, _ in places]
    tenants = [tenant for _, tenant in places]
    suppression_locks.share(connection, hashed)
    found = soft_bounce_store.bounces(connection, places)
    lifted = soft_bounce_terms.lifts(connection, hashed, tenants)
    standing = soft_bounce_terms.standings(connection, hashed, tenants)
    return [
        _Case(place, key, found.get(place, ()), lifted.get((key, place[1])), standing.get((key, place[1])))
        for place, key in zip(places, hashed, strict=True)
    ]


def carry_out(connection: Connection, decided: Decided, now: datetime) -> list[Told]:
    """Make it so; return the entries that came or went."""
    gone = soft_bounce_terms.reverse(connection, decided.reversals, now)
    return gone + soft_bounce_terms.rule(connection, decided.rulings, now, again_at=now + _AGAIN)


@dataclass(frozen=True, slots=True)
class _Case:
    """One recipient and tenant, with all that bears on them but deliveries."""

    place: Place
    key: str
    bounced: Sequence[Bounced]
    lifted_at: datetime | None
    standing: Standing | None

    def term(self, policy: SuppressionPolicy, worked: Worked | None) -> Term | None:
        """How long they are suppressed by this rule, if at all."""
        if not policy.soft_bounce.enabled:
            return None
        after = max(filter(None, (self.lifted_at, worked and worked.at)), default=None)
        return suppression_policy.term(policy.soft_bounce, [bounced.bounce for bounced in self.bounced], after)

    def outcome(self, policy: SuppressionPolicy, worked: Worked | None, now: datetime) -> Ruling | Reversal | None:
        """What is to change."""
        term = self.term(policy, worked)
        there = self.standing
        if there and there.erased and (term is None or there.term.until is None or there.term.until > now):
            return None  # what it stood by was erased too, and is no reason to write to them
        if term is None:
            return self._reversal(worked) if there else None
        if there and there.term == term and there.types == policy.soft_bounce.types:
            return None
        [evidence] = [bounced for bounced in self.bounced if term.key in bounced.event_ids]
        return Ruling(
            key=self.key,
            tenant=self.place[1],
            address=self.place[0],
            term=term,
            types=policy.soft_bounce.types,
            source_id=evidence.source_id,
            classification=evidence.classification,
            event_id=evidence.event_ids[term.key],
        )

    def _reversal(self, worked: Worked | None) -> Reversal:
        since = self.standing.term.since if self.standing else None
        if worked and since and worked.at >= since:
            return Reversal(self.key, self.place[1], Action.LIFTED, worked.event_id)
        return Reversal(self.key, self.place[1], Action.WITHDRAWN, worked.event_id if worked else None)

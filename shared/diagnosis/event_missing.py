"""The second workflow of the providers' guides: a message was sent, and an event is missing."""

from collections.abc import Iterator, Mapping

from shared.diagnosis.facts import Enrolment, Facts, FailedDelivery, Refused, SourceFacts, Undecided
from shared.diagnosis.finding import Finding, Mark, shown
from shared.vocabulary import ReceiptState

_BY_STATE: Mapping[ReceiptState, tuple[Mark, str, str]] = {
    ReceiptState.PENDING: (Mark.NOTE, "waits in the queue", "See whether a worker runs, and what it logs."),
    ReceiptState.UNVERIFIED: (
        Mark.FAULT,
        "is kept apart, because its signature could not be checked",
        "Give the source the key that it was signed with: tidings sources check.",
    ),
    ReceiptState.DEAD: (
        Mark.FAULT,
        "could not be processed",
        "Read why, mend it, and have it processed again: tidings reprocess.",
    ),
    ReceiptState.REJECTED: (
        Mark.FAULT,
        "was found to be forged, or signed with another key",
        "If it is genuine, mend the keys of the source and have it processed again: tidings reprocess.",
    ),
}
_STILL_OPEN = ("listed", "resent")


NOT_LOOKED_AROUND = Finding(
    code="not_looked_around",
    mark=Mark.NOTE,
    text="What was refused, is waiting or has failed around that time is for the operator of Tidings to see.",
    next_step="Ask the operator to look, and hand over the report.",
)
"""Instead of all that follows, where whoever asks may not be told of it."""


def findings(facts: Facts) -> Iterator[Finding]:
    """Is the webhook enrolled, does it arrive, was something refused here or failed there, can it be sent again?"""
    for source in facts.sources:
        yield from _source(facts, source)
    yield from map(_refused, facts.refused)
    yield from map(_undecided, facts.undecided)
    yield from map(_failed, facts.failed)


def nothing_wrong(facts: Facts) -> Finding:
    """What is left when all of that is in order: to ask the provider."""
    managed = [source.slug for source in facts.sources if source.managed]
    reconcile = ""
    if managed:
        which = "".join(f" --source {slug}" for slug in managed)
        reconcile = f"Ask the provider for what it failed to deliver: tidings reconcile{which}. "
    return Finding(
        code="nothing_wrong_here",
        mark=Mark.NOTE,
        text="Nothing was refused, is waiting, or is known to have failed around that time.",
        next_step=f"{reconcile}Confirm that the provider answered the send with success and with this id; then "
        "escalate to it with the report.",
    )


def _source(facts: Facts, source: SourceFacts) -> Iterator[Finding]:
    if source.problem:
        yield Finding(
            code="source_unusable",
            mark=Mark.FAULT,
            text=f"The source {source.slug} cannot be used: {source.problem}",
            next_step=f"Mend it: tidings sources check {source.slug}",
        )
    if source.last_event_at is None:
        yield Finding(
            code="source_silent",
            mark=Mark.FAULT,
            text=f"The source {source.slug} has never sent an event that was processed.",
            next_step=f"Have the provider post to /webhooks/{source.slug}, and see its test arrive.",
        )
    elif facts.submitted_at and source.last_event_at < facts.submitted_at:
        yield Finding(
            code="source_silent",
            mark=Mark.FAULT,
            text=f"The source {source.slug} has sent nothing since {shown(source.last_event_at)}, before this send.",
            next_step="Find out whether the provider posts elsewhere, or cannot reach the receiver.",
        )
    if source.managed:
        yield _enrolment(source.slug, source.enrolment)


def _enrolment(slug: str, enrolment: Enrolment | None) -> Finding:
    if enrolment is None or enrolment.enrolled is None:
        return Finding(
            code="enrolment_unknown",
            mark=Mark.NOTE,
            text=f"Whether the provider of {slug} still posts to us has not been looked at.",
            next_step=f"Ask it: tidings sources validate {slug}",
        )
    looked = f"when it was looked at, {shown(enrolment.checked_at)}"
    tested = f"when the test was made, {shown(enrolment.validated_at)}"
    if not enrolment.enrolled:
        return Finding(
            code="not_enrolled",
            mark=Mark.FAULT,
            text=f"The provider of {slug} did not post to us {looked}.",
            next_step=f"Enrol the webhook: tidings sources enrol {slug}",
        )
    if enrolment.validated is False:
        return Finding(
            code="not_validated",
            mark=Mark.FAULT,
            text=f"The test by the provider of {slug} did not reach us {tested}.",
            next_step=f"Mend the way to the receiver, then try again: tidings sources validate {slug}",
        )
    return Finding(code="enrolled", mark=Mark.GOOD, text=f"The webhook of {slug} was enrolled {looked}.")


def _refused(refusal: Refused) -> Finding:
    return Finding(
        code="refused",
        mark=Mark.FAULT,
        text=f"{refusal.count} requests of this source were refused with {refusal.status_code} around "
        f"{shown(refusal.at)}, and not stored: {refusal.reason} ({refusal.detail.rstrip('.')}).",
        next_step="If they were genuine, mend the reason, then have the provider send them again.",
    )


def _undecided(receipt: Undecided) -> Finding:
    mark, text, step = _BY_STATE[receipt.state]
    why = f": {receipt.why.rstrip('.')}" if receipt.why else ""
    return Finding(
        code=f"receipt_{receipt.state}",
        mark=mark,
        text=f"A request received at {shown(receipt.received_at)} {text}{why}.",
        next_step=step,
        evidence=(receipt.id,),
    )


def _failed(delivery: FailedDelivery) -> Finding:
    is_open = delivery.state in _STILL_OPEN
    return Finding(
        code=f"failed_delivery_{delivery.state}",
        mark=Mark.NOTE if delivery.state == "recovered" else Mark.FAULT,
        text=f"The provider of {delivery.source} failed to deliver {delivery.events} events to us at "
        f"{shown(delivery.failed_at)} ({delivery.outcome}); its delivery {delivery.reference} is "
        f"{delivery.state.replace('_', ' ')}.",
        next_step=f"Have it sent again: tidings reconcile --source {delivery.source}" if is_open else None,
        evidence=(delivery.reference,),
    )

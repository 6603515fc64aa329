"""Second workflow of the providers' support guides: a message was sent, and an event is missing."""

from collections.abc import Iterator, Mapping

from shared.diagnosis.model import DiagnosisInput, Finding, Mark, SourceStatus, WebhookRegistration, format_time
from shared.vocabulary import ReceiptState

_BY_STATE: Mapping[ReceiptState, tuple[Mark, str, str]] = {
    ReceiptState.PENDING: (Mark.NOTE, "is waiting in the queue", "Check that a worker runs, and its log."),
    ReceiptState.UNVERIFIED: (
        Mark.FAULT,
        "is quarantined, because its signature could not be verified",
        "Add the key that signed it to the source: tidings sources check.",
    ),
    ReceiptState.DEAD: (
        Mark.FAULT,
        "could not be processed",
        "Fix the cause, then process it again: tidings reprocess.",
    ),
    ReceiptState.REJECTED: (
        Mark.FAULT,
        "was rejected as forged, or signed with another key",
        "If it is genuine, correct the keys of the source and process it again: tidings reprocess.",
    ),
}
_OPEN_STATES = ("listed", "resent")

ASK_OPERATOR = Finding(
    code="not_looked_around",
    mark=Mark.NOTE,
    text="Only the operator of Tidings can see requests around that time that were refused, are waiting or failed.",
    next_step="Ask the operator to check them, and pass on the report.",
)
"""The finding instead of those below for a tenant, which must not see them."""


def list_findings(given: DiagnosisInput) -> Iterator[Finding]:
    """Yield the state of the sources, what was refused, failed or set aside here, and what the provider failed."""
    for source in given.sources:
        yield from _describe_source(given, source)
    for refusal in given.refused:
        yield Finding(
            code="refused",
            mark=Mark.FAULT,
            text=f"{refusal.count} requests of this source were refused with {refusal.status_code} around "
            f"{format_time(refusal.at)}, and not stored: {refusal.reason} ({refusal.detail.rstrip('.')}).",
            next_step="If they were genuine, fix the cause, then have the provider send them again.",
        )
    for receipt in given.unprocessed:
        mark, text, step = _BY_STATE[receipt.state]
        why = f": {receipt.why.rstrip('.')}" if receipt.why else ""
        yield Finding(
            code=f"receipt_{receipt.state}",
            mark=mark,
            text=f"A request received at {format_time(receipt.received_at)} {text}{why}.",
            next_step=step,
            evidence=(receipt.id,),
        )
    for problem, event_id in given.set_aside.items():
        yield Finding(
            code="set_aside",
            mark=Mark.FAULT,
            text=f"Authentic events around that time changed nothing: {problem.rstrip('.')}.",
            next_step="If they are yours, change the source accordingly, then process them again: tidings reprocess. "
            "GET /v1/events?set_aside=true lists them.",
            evidence=(event_id,),
        )
    for delivery in given.failed:
        resend = f"Have it sent again: tidings reconcile --source {delivery.source}"
        yield Finding(
            code=f"failed_delivery_{delivery.state}",
            mark=Mark.NOTE if delivery.state == "recovered" else Mark.FAULT,
            text=f"The provider of {delivery.source} failed to deliver {delivery.events} events to us at "
            f"{format_time(delivery.failed_at)} ({delivery.outcome}). The recovery of its delivery "
            f"{delivery.reference} is {delivery.state.replace('_', ' ')}.",
            next_step=resend if delivery.state in _OPEN_STATES else None,
            evidence=(delivery.reference,),
        )


def ask_provider(given: DiagnosisInput) -> Finding:
    """Return the finding if nothing is wrong here: the provider must be asked."""
    managed = [source.slug for source in given.sources if source.managed]
    reconcile = ""
    if managed:
        options = "".join(f" --source {slug}" for slug in managed)
        reconcile = f"Ask the provider for deliveries that it failed to make: tidings reconcile{options}. "
    return Finding(
        code="nothing_wrong_here",
        mark=Mark.NOTE,
        text="Nothing was refused, is waiting, or is known to have failed around that time.",
        next_step=f"{reconcile}Confirm that the provider accepted the message and returned this id; then "
        "escalate to the provider with the report.",
    )


def _describe_source(given: DiagnosisInput, source: SourceStatus) -> Iterator[Finding]:
    slug = source.slug
    if source.problem:
        yield Finding(
            code="source_unusable",
            mark=Mark.FAULT,
            text=f"The source {slug} cannot be used: {source.problem}",
            next_step=f"Fix it: tidings sources check {slug}",
        )
    if source.last_event_at is None:
        yield Finding(
            code="source_silent",
            mark=Mark.FAULT,
            text=f"No event of the source {slug} has ever been processed.",
            next_step=f"Configure the provider to post to /webhooks/{slug}, and check that its test request arrives.",
        )
    elif given.submitted_at and source.last_event_at < given.submitted_at:
        yield Finding(
            code="source_silent",
            mark=Mark.FAULT,
            text=f"The last event of the source {slug} arrived at {format_time(source.last_event_at)}, "
            "before this send.",
            next_step="Find out whether the provider posts to another address, or cannot reach the receiver.",
        )
    if source.managed:
        yield _describe_registration(slug, source.registration)


def _describe_registration(slug: str, registration: WebhookRegistration | None) -> Finding:
    if registration is None or registration.registered is None:
        return Finding(
            code="enrolment_unknown",
            mark=Mark.NOTE,
            text=f"The registration of the webhook of {slug} at its provider has not been checked.",
            next_step=f"Check it: tidings sources validate {slug}",
        )
    if not registration.registered:
        return Finding(
            code="not_enrolled",
            mark=Mark.FAULT,
            text=f"The webhook of {slug} was not registered at its provider at the last check, "
            f"{format_time(registration.checked_at)}.",
            next_step=f"Register it: tidings sources enrol {slug}",
        )
    if registration.validated is False:
        return Finding(
            code="not_validated",
            mark=Mark.FAULT,
            text=f"The test request by the provider of {slug} did not arrive at the last test, "
            f"{format_time(registration.validated_at)}.",
            next_step=f"Make the receiver reachable for the provider, then test again: tidings sources validate {slug}",
        )
    return Finding(
        code="enrolled",
        mark=Mark.GOOD,
        text=f"The webhook of {slug} was registered at its provider at the last check, "
        f"{format_time(registration.checked_at)}.",
    )

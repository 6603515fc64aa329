"""Second workflow of the providers' support guides: a message was sent, and an event is missing."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from shared.diagnosis.advice import NAMES
from shared.diagnosis.model import (
    DiagnosisInput,
    Finding,
    Mark,
    RefusedRequests,
    SourceStatus,
    UnprocessedReceipt,
    WebhookRegistration,
    format_time,
)
from shared.vocabulary import ReceiptState

_BY_STATE: Mapping[ReceiptState, tuple[Mark, str, str, tuple[str, ...]]] = {
    ReceiptState.PENDING: (
        Mark.NOTE,
        "is waiting in the queue",
        "Receipt {id} waits for a worker: check that one runs, and its log.",
        (),
    ),
    ReceiptState.UNVERIFIED: (
        Mark.FAULT,
        "is quarantined, because its signature could not be verified",
        "Add the key that signed it to the source {source}; it is verified again by itself. The source needs:",
        ("tidings sources check {source}",),
    ),
    ReceiptState.DEAD: (
        Mark.FAULT,
        "could not be processed",
        "Correct the cause that is named, then process receipt {id} again:",
        ("tidings reprocess --receipt {id}",),
    ),
    ReceiptState.REJECTED: (
        Mark.FAULT,
        "was rejected as forged, or signed with another key",
        "If it is genuine, correct the keys of the source {source}, then process receipt {id} again:",
        ("tidings sources check {source}", "tidings reprocess --receipt {id}"),
    ),
}
_REPROCESS_ALL = (
    "Correct the cause that is named, then process all dead receipts of the source {source} again:",
    ("tidings reprocess --source {source}",),
)
_OPEN_STATES = ("listed", "resent")
_RECONCILE = "tidings reconcile --source {slug}"
_UNCHECKED = WebhookRegistration(checked_at=None, registered=None, validated_at=None, validated=None)


class _Row(NamedTuple):
    """A finding about a source; `code` is that of the finding if it is not the row's key."""

    mark: Mark
    text: str
    step: str = ""
    commands: tuple[str, ...] = ()
    code: str = ""


_SOURCE_ROWS: Mapping[str, _Row] = {
    "source_unusable": _Row(
        Mark.FAULT,
        "The source {slug} cannot be used: {problem}",
        "Correct what is named at the source {slug}:",
        ("tidings sources check {slug}",),
    ),
    "source_unheard": _Row(
        Mark.FAULT,
        "No event of the source {slug} has ever been processed.",
        "Configure {provider} to post to /webhooks/{slug}; this says how:",
        ("tidings sources check {slug}",),
        code="source_silent",
    ),
    "source_silent": _Row(
        Mark.FAULT,
        "The last event of the source {slug} arrived at {last_event_at}, before this send.",
        "Find out whether {provider} posts to another address, or cannot reach the receiver:",
        ("tidings sources check {slug}",),
    ),
    "enrolment_unasked": _Row(
        Mark.NOTE,
        "Whether {provider} still posts to /webhooks/{slug} cannot be asked. {no_api}",
        "Compare the webhook's URL on the dashboard of {provider} with this, have {provider} send a test from there if "
        "it can, and look there for failed deliveries:",
        ("tidings sources check {slug}",),
        code="enrolment_unknown",
    ),
    "enrolment_unknown": _Row(
        Mark.NOTE,
        "The registration of the webhook of {slug} at its provider has not been checked.",
        "Check that the webhook of {slug} is registered:",
        ("tidings sources webhooks {slug}",),
    ),
    "not_enrolled": _Row(
        Mark.FAULT,
        "The webhook of {slug} was not registered at its provider at the last check, {checked_at}.",
        "Register the webhook of {slug}:",
        ("tidings sources enrol {slug}",),
    ),
    "enrolled": _Row(
        Mark.GOOD, "The webhook of {slug} was registered at its provider at the last check, {checked_at}."
    ),
    "validation_unknown": _Row(
        Mark.NOTE,
        "Whether a test request by the provider of {slug} arrives has not been tried.",
        "Have {provider} send a test to {slug}:",
        ("tidings sources validate {slug}",),
    ),
    "not_validated": _Row(
        Mark.FAULT,
        "The test request by the provider of {slug} did not arrive at the last test, {validated_at}.",
        "Make the receiver reachable for {provider}, then have it test {slug} again:",
        ("tidings sources validate {slug}",),
    ),
    "validated": _Row(Mark.GOOD, "A test request by the provider of {slug} arrived at {validated_at}."),
    "failed_batches": _Row(
        Mark.NOTE,
        "{provider} {asked} what it could not deliver to {slug}{open}.",
        "Ask {provider} for what it could not deliver to {slug}, then have it sent again:",
        (f"{_RECONCILE} --dry-run", _RECONCILE),
    ),
    "failed_unlisted": _Row(
        Mark.NOTE,
        "The API of {provider} does not tell what could not be delivered to {slug}.",
        "Look for failed deliveries on the dashboard of {provider}.",
    ),
}
"""What can be said of a source whose event is missing, in the order of the providers' support guides."""

ASK_OPERATOR = Finding(
    code="not_looked_around",
    mark=Mark.NOTE,
    text="Only the operator of Tidings can see requests around that time that were refused, are waiting or failed.",
    next_step="Ask the operator to check them, and pass on the report.",
)
"""The finding instead of those below for a tenant, which must not see them."""


def confirm_accepted(given: DiagnosisInput) -> Finding:
    """Return the first step for a message without events: whether the provider accepted it at all."""
    of = f" of {NAMES.get(given.provider, given.provider)}" if given.provider else " of the provider"
    ids = given.names.request_id or given.names.provider_message_id or given.names.smtp_id
    returned = f" and have returned the id {ids}" if ids else " and have returned the id that you look for"
    return Finding(
        code="api_answer",
        mark=Mark.NOTE,
        text=f"Tidings does not see what the API{of} answered to the send.",
        next_step=f"Find the answer of the API{of} in your application's log: it must be 2xx{returned}. After an "
        "error the message was never sent: correct the request, and send it.",
    )


def list_findings(given: DiagnosisInput) -> Iterator[Finding]:
    """Yield whether the provider posts here and what it could not deliver: enrolment, validation, failed batches."""
    for source in given.sources:
        registration = source.registration or _UNCHECKED
        is_open = any(one.source == source.slug and one.state in _OPEN_STATES for one in given.failed)
        at = source.reconciled_at
        facts = {
            "slug": source.slug,
            "provider": NAMES.get(source.provider, source.provider),
            "problem": source.problem,
            "no_api": source.no_api or "",
            "last_event_at": format_time(source.last_event_at),
            "checked_at": format_time(registration.checked_at),
            "validated_at": format_time(registration.validated_at),
            "asked": f"was asked last at {format_time(at)}" if at else "was never asked",
            "open": ", and something is still open" if is_open else "",
        }
        for code in _list_codes(given, source):
            row = _SOURCE_ROWS[code]
            yield Finding(
                code=row.code or code,
                mark=row.mark,
                text=row.text.format(**facts).rstrip(),
                next_step=row.step.format(**facts) or None,
                commands=tuple(command.format(**facts) for command in row.commands),
            )


def list_around(given: DiagnosisInput) -> Iterator[Finding]:
    """Yield what happened to other requests of the source around that time: refused, failed, set aside.

    The missing event may be among them, but nothing proves it.
    """
    yield from _list_refused(given)
    yield from _list_unprocessed(given)
    yield from _list_set_aside(given)
    yield from _list_failed(given)


def _list_refused(given: DiagnosisInput) -> Iterator[Finding]:
    alike: dict[tuple[int, str, str], list[RefusedRequests]] = {}
    for one in given.refused:
        alike.setdefault((one.status_code, one.reason, one.detail), []).append(one)
    for (status_code, reason, detail), found in alike.items():
        count, at = sum(one.count for one in found), format_time(max(one.at for one in found))
        requests = "1 request of this source was" if count == 1 else f"{count} requests of this source were"
        yield Finding(
            code="refused",
            mark=Mark.FAULT,
            text=f"{requests} refused with {status_code}, the last at {at}, and not stored: {reason} "
            f"({detail.rstrip('.')}).",
            next_step=f"If they were genuine, correct the cause at {_name_source(given)}, then have the provider send "
            "them again:",
            commands=(f"tidings sources check {given.source}".rstrip(),),
            about_source=True,
        )


def _list_unprocessed(given: DiagnosisInput) -> Iterator[Finding]:
    stuck: dict[tuple[str, ReceiptState, str], list[UnprocessedReceipt]] = {}
    for receipt in given.unprocessed:
        stuck.setdefault((receipt.source, receipt.state, receipt.why), []).append(receipt)
    for (slug, state, why), receipts in stuck.items():
        last = max(receipts, key=lambda receipt: receipt.received_at)
        mark, text, step, commands = _BY_STATE[state]
        reason = f": {why.rstrip('.')}" if why else ""
        others = len(receipts) - 1
        also = f" The same is true of {others} other{'' if others == 1 else 's'} around that time." if others else ""
        if others and state is ReceiptState.DEAD:
            step, commands = _REPROCESS_ALL
        yield Finding(
            code=f"receipt_{state}",
            mark=mark,
            text=f"A request received at {format_time(last.received_at)} {text}{reason}.{also}",
            next_step=step.format(id=last.id, source=slug),
            commands=tuple(command.format(id=last.id, source=slug) for command in commands),
            evidence=tuple(receipt.id for receipt in receipts),
            about_source=True,
        )


def _list_set_aside(given: DiagnosisInput) -> Iterator[Finding]:
    for problem, receipt_id in given.set_aside.items():
        yield Finding(
            code="set_aside",
            mark=Mark.FAULT,
            text=f"Authentic events around that time changed nothing: {problem.rstrip('.')}.",
            next_step=f"If they are yours, change {_name_source(given)} accordingly, then process them again:",
            commands=(f"tidings reprocess --receipt {receipt_id}",),
            evidence=(receipt_id,),
            about_source=True,
        )


def _list_failed(given: DiagnosisInput) -> Iterator[Finding]:
    managed = {one.slug for one in given.sources if one.managed}
    for slug in dict.fromkeys(one.source for one in given.failed if one.state == "recovered"):
        recovered = [one for one in given.failed if one.source == slug and one.state == "recovered"]
        yield Finding(
            code="failed_delivery_recovered",
            mark=Mark.NOTE,
            text=f"What the provider of {slug} failed to deliver to us around that time was recovered: "
            f"{sum(one.events for one in recovered):,} of its events, the last at "
            f"{format_time(max(one.failed_at for one in recovered))}.",
            evidence=tuple(one.reference for one in recovered),
            about_source=True,
        )
    for delivery in given.failed:
        if delivery.state == "recovered":
            continue
        step: str | None = None
        commands: tuple[str, ...] = ()
        if delivery.state in _OPEN_STATES and delivery.source in managed:
            step = f"Have delivery {delivery.reference} sent again:"
            commands = (_RECONCILE.format(slug=delivery.source),)
        elif delivery.state in _OPEN_STATES:
            step = f"Have delivery {delivery.reference} sent again, on the provider's dashboard."
        yield Finding(
            code=f"failed_delivery_{delivery.state}",
            mark=Mark.FAULT,
            text=f"The provider of {delivery.source} failed to deliver {delivery.events} "
            f"event{'' if delivery.events == 1 else 's'} to us at {format_time(delivery.failed_at)} "
            f"({delivery.outcome}). State of delivery {delivery.reference}: {delivery.state.replace('_', ' ')}.",
            next_step=step,
            commands=commands,
            evidence=(delivery.reference,),
            about_source=True,
        )


def _name_source(given: DiagnosisInput) -> str:
    return f"the source {given.source}" if given.source else "the source that was named"


def escalate(given: DiagnosisInput, *, nothing_wrong: bool) -> Finding:
    """Return the last step: the provider's support is asked, with the report."""
    provider = NAMES.get(given.provider, given.provider) or "the provider"
    text = "If the steps above find nothing, only the provider knows what happened to the message."
    if nothing_wrong:
        text = "Nothing was refused, is waiting, or is known to have failed around that time. Only the provider knows."
    return Finding(
        code="nothing_wrong_here" if nothing_wrong else "escalate",
        mark=Mark.NOTE,
        text=text,
        next_step=f"Then escalate to the support of {provider}, and paste the report:",
        commands=(f"tidings diagnose {given.selector} --report",),
    )


def _list_codes(given: DiagnosisInput, source: SourceStatus) -> Iterator[str]:
    """Yield the rows of `_SOURCE_ROWS` that apply to a source."""
    if source.problem:
        yield "source_unusable"
    if source.last_event_at is None:
        yield "source_unheard"
    elif given.submitted_at and source.last_event_at < given.submitted_at:
        yield "source_silent"
    if not source.managed:
        yield "enrolment_unasked"
        return
    registration = source.registration or _UNCHECKED
    yield {None: "enrolment_unknown", False: "not_enrolled", True: "enrolled"}[registration.registered]
    if source.sends_tests:
        yield {None: "validation_unknown", False: "not_validated", True: "validated"}[registration.validated]
    yield "failed_batches" if source.lists_failed else "failed_unlisted"

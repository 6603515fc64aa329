"""Filters of the change log. `matches` applies one in memory; `shared.changes.log` applies the same one in SQL."""

from dataclasses import dataclass

from shared.subscriptions.model import ANY, ChangeSubject
from shared.subscriptions.model import matches as subject_matches


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """The filter of a reader of the change log. An empty or None field matches everything.

    `types` are, for example, `message.bounced`, `message.*` and `*`.
    """

    types: tuple[str, ...] = (ANY,)
    sources: tuple[str, ...] = ()
    tenant: str | None = None
    recipient_domains: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    message_id: str | None = None


EVERYTHING = ChangeFilter()


def matches(wanted: ChangeFilter, subject: ChangeSubject, message_id: str | None) -> bool:
    """Return whether a change matches the filter."""
    return (wanted.message_id is None or wanted.message_id == message_id) and subject_matches(wanted, subject)

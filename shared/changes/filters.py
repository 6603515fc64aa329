"""Which changes a reader of the log is shown. One meaning for two ways of asking: of the database, and in memory."""

from dataclasses import dataclass

from shared.subscriptions.model import ANY, ChangeSubject, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """What a reader asks for. What is empty or None lets everything through.

    `types` are such as `message.bounced`, `message.*` and `*`; `tenant` is the only one whose changes are shown.
    """

    types: tuple[str, ...] = (ANY,)
    sources: tuple[str, ...] = ()
    tenant: str | None = None
    recipient_domains: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    message_id: str | None = None


EVERYTHING = ChangeFilter()


def fits(wanted: ChangeFilter, subject: ChangeSubject, message_id: str | None) -> bool:
    """Whether a change is shown to who asks for this."""
    return (wanted.message_id is None or wanted.message_id == message_id) and matches(wanted, subject)

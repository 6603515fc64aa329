"""What a message is called before its first event: the name that its provider's adapter will give it.

Each adapter of `shared.providers` names the message of an event in its own way (`Event.message_key`). Whoever
announces a send must arrive at the same name; that is what this table is for, and a test holds the two together.
"""

from collections.abc import Mapping

from shared.domain.addresses import strip_brackets

RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    # Of the ids that are known the first one names the message.
    "mailchannels": (("request_id", "request:"), ("smtp_id", "smtp:")),
    "ark": (("smtp_id", "smtp:"),),
    "postal": (("smtp_id", "smtp:"),),
    "cloudmailin": (("provider_message_id", "id:"), ("request_id", "id:")),  # what its API answered is the id
    # mailwebhook has no row: it brings mail in, and nothing that was sent by it
}


def announced(
    provider: str, *, request_id: str | None = None, smtp_id: str | None = None, provider_message_id: str | None = None
) -> str | None:
    """The message key of a send that is announced with these ids; None if no event could ever be matched to it."""
    given = {
        "request_id": request_id,
        "smtp_id": strip_brackets(smtp_id) if smtp_id else None,
        "provider_message_id": provider_message_id,
    }
    keys = (prefix + value for name, prefix in RULES.get(provider, ()) if (value := given[name]))
    return next(keys, None)


def accepted(provider: str) -> tuple[str, ...]:
    """The ids of which one is needed to announce a send by this provider; none at all where it sends nothing."""
    return tuple(name for name, _ in RULES.get(provider, ()))

"""What a message is called before its first event: the name that its provider's adapter will give it.

Each adapter of `shared.providers` names the message of an event in its own way (`Event.message_key`). Whoever
announces a send must arrive at the same name; that is what this table is for, and a test holds the two together.

A Message-Id is chosen by who sends, who may choose another tenant's. So it names a message only together with the
tenant: `within`.
"""

from collections.abc import Mapping
from urllib.parse import quote

from shared.addresses import strip_brackets

RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    # Of the ids that are known the first one names the message.
    "mailchannels": (("request_id", "request:"), ("smtp_id", "smtp:")),
    "ark": (("smtp_id", "smtp:"),),
    "postal": (("smtp_id", "smtp:"),),
    "cloudmailin": (("provider_message_id", "id:"), ("request_id", "id:")),  # what its API answered is the id
    # mailwebhook has no row: it brings mail in, and nothing that was sent by it
}


def within(tenant: str | None, key: str) -> str:
    """A name that is this tenant's alone; where events name no tenant, the name as it is."""
    return f"tenant:{quote(tenant, safe='', errors='surrogatepass')}/{key}" if tenant else key


def is_of_sender(key: str) -> bool:
    """Whether a name that is within no tenant was chosen by who sent."""
    return key.startswith("smtp:")


def announced(
    provider: str,
    *,
    tenant: str | None = None,
    request_id: str | None = None,
    smtp_id: str | None = None,
    provider_message_id: str | None = None,
) -> str | None:
    """The message key of a send that is announced with these ids; None if no event could ever be matched to it.

    `tenant` is the one that its events will name.
    """
    given = {
        "request_id": request_id,
        "smtp_id": strip_brackets(smtp_id) if smtp_id else None,
        "provider_message_id": provider_message_id,
    }
    for name, prefix in RULES.get(provider, ()):
        if value := given[name]:
            return within(tenant, prefix + value) if name == "smtp_id" else prefix + value
    return None


def accepted(provider: str) -> tuple[str, ...]:
    """The ids of which one is needed to announce a send by this provider; none at all where it sends nothing."""
    return tuple(name for name, _ in RULES.get(provider, ()))

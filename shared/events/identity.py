"""Message keys of announced sends: the key that the provider's adapter will give to the message's events.

Each adapter in `shared.providers` builds the message key of an event in its own way (`Event.message_key`). The
announcement of a send must build the same key. This table says how; a test compares it with the adapters.

The sender chooses the Message-Id, and may choose one that another tenant uses. A Message-Id therefore identifies a
message only together with the tenant (`scope_to_tenant`).
"""

from collections.abc import Mapping
from urllib.parse import quote

from shared.addresses import strip_brackets

MESSAGE_KEY_RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    # The first id that is known gives the key.
    "mailchannels": (("request_id", "request:"), ("smtp_id", "smtp:")),
    "ark": (("smtp_id", "smtp:"),),
    "postal": (("smtp_id", "smtp:"),),
    "cloudmailin": (("provider_message_id", "id:"), ("request_id", "id:")),  # the id that its API returned
    "ses": (("provider_message_id", "id:"), ("request_id", "id:")),  # the id that the send was answered with
    "sendgrid": (("provider_message_id", "id:"), ("request_id", "id:")),  # X-Message-Id of the answer
    "postmark": (("provider_message_id", "id:"), ("request_id", "id:")),
    "resend": (("provider_message_id", "id:"), ("request_id", "id:")),
    "standardwebhooks": (("provider_message_id", "id:"),),
    "mailgun": (("smtp_id", "smtp:"), ("provider_message_id", "smtp:")),
    "brevo": (("smtp_id", "smtp:"),),
    "mailjet": (("provider_message_id", "id:"),),
    "sparkpost": (("request_id", "request:"), ("provider_message_id", "id:")),
    "mailersend": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "mandrill": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "mailtrap": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "unisender": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "lettermint": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "emailit": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "ahasend": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "mailpace": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "smtp2go": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "azure": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "elasticemail": (("provider_message_id", "id:"), ("request_id", "request:")),
    "cloudflare": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "kumomta": (("provider_message_id", "id:"), ("smtp_id", "smtp:")),
    "scaleway": (("provider_message_id", "id:"), ("request_id", "id:")),
    "generic": (("provider_message_id", "id:"), ("request_id", "request:"), ("smtp_id", "smtp:")),
    # mailwebhook has no row: it receives mail and sends none
}


def scope_to_tenant(tenant: str | None, key: str) -> str:
    """Return the key within a tenant; the key itself if events name no tenant."""
    return f"tenant:{quote(tenant, safe='', errors='surrogatepass')}/{key}" if tenant else key


def is_sender_chosen(key: str) -> bool:
    """Return whether a key without a tenant was chosen by the sender."""
    return key.startswith("smtp:")


def build_message_key(
    provider: str,
    *,
    tenant: str | None = None,
    request_id: str | None = None,
    smtp_id: str | None = None,
    provider_message_id: str | None = None,
) -> str | None:
    """Return the message key of a send with these ids; None if no event could be matched to it.

    `tenant` is the tenant that its events will name.
    """
    given = {
        "request_id": request_id,
        "smtp_id": strip_brackets(smtp_id) if smtp_id else None,
        "provider_message_id": provider_message_id,
    }
    for name, prefix in MESSAGE_KEY_RULES.get(provider, ()):
        if value := given[name]:
            return scope_to_tenant(tenant, prefix + value) if name == "smtp_id" else prefix + value
    return None


def list_accepted_ids(provider: str) -> tuple[str, ...]:
    """Return the ids of which an announcement needs one; empty if the provider sends no mail."""
    return tuple(name for name, _ in MESSAGE_KEY_RULES.get(provider, ()))

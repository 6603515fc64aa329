"""Whether addresses are suppressed: many at once, each by its own entries and by those of its domain."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from shared.addresses import normalize
from shared.suppression import store as suppressions
from shared.suppression.recipient_hashes import RecipientKeys
from shared.suppression.store import Entry
from shared.vocabulary import MailType


def check(
    connection: Connection,
    addresses: Sequence[str],
    keys: RecipientKeys,
    now: datetime,
    *,
    type: MailType | None = None,  # noqa: A002 - the word of the contract
    tenant: str | None = None,
) -> list[Entry | None]:
    """For each address, in the order asked, the entry that suppresses it, or None.

    Of several that of the address itself comes before that of the domain, and what holds longest before the others.
    """
    by_domain: dict[str, str] = {}
    asked = []
    for address in addresses:
        normalized = normalize(address)
        domain = normalized.rpartition("@")[2]
        if domain not in by_domain:
            by_domain[domain] = keys.of_domain(domain)
        asked.append((keys.of_normalized(normalized), by_domain[domain]))
    found = suppressions.check(connection, [key for pair in asked for key in pair], now, tenant=tenant, type=type)
    return [next((found[key][0] for key in pair if key in found), None) for pair in asked]

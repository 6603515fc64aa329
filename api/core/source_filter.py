"""The filters `source` and `sources` of lists: a name that no source has is refused, because it would find nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from api.core.errors import invalid
from shared.auth.keys import Caller
from shared.encryption import SecretsError, Vault
from shared.errors import CredentialsError, suggest
from shared.messages.queries import MessageFilter, list_messages
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.suppression.queries import SuppressionFilters, list_newest


def require_sources(connection: Connection, vault: Vault, caller: Caller, query: Mapping[str, Any]) -> None:
    """Raise ProblemError (422) if a query names a source that does not exist.

    Deleted sources exist, because what they received is still listed. To a tenant's key, sources that have nothing of
    the tenant do not exist.
    """
    for field in ("source", "sources"):
        slugs = list(filter(None, map(str.strip, (query.get(field) or "").split(","))))
        known = sources.list_known_slugs(connection, slugs) if slugs else frozenset()
        for slug in slugs:
            if slug not in known or not _is_open_to(caller, connection, vault, slug):
                # Names are suggested only to those who may list all sources.
                names = [] if caller.tenant else [row.slug for row in sources.list_sources(connection)]
                raise invalid({field: [f"There is no source called {slug!r}.{suggest(slug, names)}"]})


def _is_open_to(caller: Caller, connection: Connection, vault: Vault, slug: str) -> bool:
    tenant = caller.tenant
    if tenant is None:
        return True
    row = sources.find(connection, slug)
    try:
        source = row and open_source(row, vault)
    except (CredentialsError, SecretsError):
        source = None
    if source and tenant in source.provider.tenants(source.credentials):
        return True
    page = list_messages(connection, MessageFilter(source=slug, tenant=tenant), limit=1)
    return bool(
        page.items
        or page.next
        or list_newest(connection, datetime.now(UTC), SuppressionFilters(source=slug, tenant=tenant), limit=1).items
    )

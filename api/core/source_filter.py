"""The filters `source` and `sources` of lists: a name that no source has is refused, because it would find nothing."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from api.core.errors import invalid
from shared.auth.keys import Caller
from shared.sources import service


def require_sources(connection: Connection, caller: Caller, query: Mapping[str, Any]) -> None:
    """Raise ProblemError (422) if a query names a source that does not exist.

    Deleted sources exist, because what they received is still listed. For a tenant's key nothing is checked: the answer
    would reveal which sources there are.
    """
    if caller.tenant is not None:
        return
    for field in ("source", "sources"):
        slugs = list(filter(None, map(str.strip, (query.get(field) or "").split(","))))
        if missing := service.find_missing(connection, slugs):
            raise invalid({field: [service.name_missing(connection, missing)]})

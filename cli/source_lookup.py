"""Look up sources for commands."""

from contextlib import suppress

from cli.context import Workbench
from shared.errors import NotFoundError, TidingsError
from shared.sources import store as stored
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow


def unknown(slug: str) -> NotFoundError:
    """Return the error for a source that does not exist."""
    return NotFoundError(f"There is no source called {slug!r}; `tidings sources list` lists all sources.")


def find(bench: Workbench, slug: str) -> SourceRow:
    """Return a source as it is stored. Raises NotFoundError."""
    with bench.engine.begin() as connection:
        row = stored.find(connection, slug)
    if row is None:
        raise unknown(slug)
    return row


def ready(bench: Workbench, slug: str) -> Source:
    """Open a source. Raises TidingsError."""
    return open_source(find(bench, slug), bench.vault)


def find_all(bench: Workbench) -> list[SourceRow]:
    """Return all sources as they are stored."""
    with bench.engine.begin() as connection:
        return stored.listed(connection)


def all_ready(bench: Workbench) -> list[Source]:
    """Open every source that can be used."""
    sources = []
    for row in find_all(bench):
        with suppress(TidingsError):
            sources.append(open_source(row, bench.vault))
    return sources

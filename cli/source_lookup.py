"""What commands need that ask a source's provider: the source made ready, and a client of its API."""

from collections.abc import Sequence

from cli.context import Workbench
from shared.errors import TidingsError
from shared.sources import store as stored
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow


def unknown(slug: str) -> TidingsError:
    """The error for a source that there is not."""
    return TidingsError(f"There is no source called {slug!r}; `tidings sources list` shows those there are.")


def find(bench: Workbench, slug: str) -> SourceRow:
    """A source as it is stored. Raises TidingsError."""
    with bench.engine.begin() as connection:
        row = stored.find(connection, slug)
    if row is None:
        raise unknown(slug)
    return row


def ready(bench: Workbench, slug: str) -> Source:
    """A source made ready for use. Raises TidingsError."""
    return open_source(find(bench, slug), bench.vault)


def all_ready(bench: Workbench) -> Sequence[Source]:
    """Every source that can be used."""
    with bench.engine.begin() as connection:
        rows = stored.listed(connection)
    return [source for row in rows if (source := _if_usable(bench, row))]


def _if_usable(bench: Workbench, row: SourceRow) -> Source | None:
    try:
        return open_source(row, bench.vault)
    except TidingsError:
        return None

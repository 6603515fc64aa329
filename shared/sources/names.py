"""The names of sources, those of deleted ones included: what they received keeps its name."""

from collections.abc import Sequence

from sqlalchemy import Connection


def id_of(connection: Connection, slug: str) -> int | None:
    """The source that has, or had, this name."""
    found: int | None = connection.exec_driver_sql(
        "SELECT id FROM sources WHERE slug = %(slug)s", {"slug": slug}
    ).scalar()
    return found


def lock(connection: Connection, slug: str) -> bool:
    """Keep others from changing this source until the transaction ends. False if there is none in service."""
    rows = connection.exec_driver_sql(
        "SELECT 1 FROM sources WHERE slug = %(slug)s AND deleted_at IS NULL FOR UPDATE", {"slug": slug}
    ).all()
    return bool(rows)


def known(connection: Connection, slugs: Sequence[str]) -> frozenset[str]:
    """Those of these names that a source has, or had."""
    rows = connection.exec_driver_sql("SELECT slug FROM sources WHERE slug = ANY(%(slugs)s)", {"slugs": list(slugs)})
    return frozenset(row[0] for row in rows)

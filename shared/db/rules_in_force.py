"""The rules file that was accepted last, as workers saw it: what holds while a newer one is wrong."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A file that was found to be right: where it was, and what it said."""

    path: str
    text: str
    accepted_at: datetime


def find(connection: Connection) -> Accepted | None:
    """The file that was accepted last; None where no file is named, and the defaults hold."""
    row = connection.exec_driver_sql("SELECT path, text, accepted_at FROM rules_in_force").one_or_none()
    return Accepted(path=row[0], text=row[1], accepted_at=row[2]) if row else None


def keep(connection: Connection, path: str, text: str) -> None:
    """Note that this file is in force; nothing is written where it is known."""
    connection.exec_driver_sql(
        "INSERT INTO rules_in_force AS r (path, text, accepted_at) VALUES (%(path)s, %(text)s, now())"
        " ON CONFLICT (single) DO UPDATE SET path = excluded.path, text = excluded.text,"
        " accepted_at = excluded.accepted_at"
        " WHERE (r.path, r.text) IS DISTINCT FROM (excluded.path, excluded.text)",
        {"path": path, "text": text},
    )


def forget(connection: Connection) -> None:
    """Note that no file is named, and that the defaults are in force."""
    connection.exec_driver_sql("DELETE FROM rules_in_force")

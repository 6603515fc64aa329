"""The rules that workers use, as the database shows them: the file that was accepted last, and the API's rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from shared.alerts import store as alerts
from shared.errors import ConflictError
from shared.rules import document
from shared.rules.model import Rules
from shared.rules.schemas import MAX_ALERT_RULES
from shared.rules.tables import rules_in_force
from shared.sources import service as sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The rules in force. `path` is the file that workers accepted at `accepted_at`; None if they use the defaults.

    `of_api` are the rules that were made through the API. One whose name the file or the defaults have is not in force.
    """

    path: str | None
    accepted_at: datetime | None
    text: str | None
    rules: Rules
    of_api: Sequence[Row[Any]]

    @property
    def names(self) -> frozenset[str]:
        """The names of the rules of the file, or of the defaults."""
        return frozenset(rule.name for rule in self.rules.alerts)


def overview(connection: Connection) -> Overview:
    """Return what is in force. Raises RulesError if a newer version accepted rules that this one does not."""
    accepted = get_accepted(connection)
    return Overview(
        path=accepted.path if accepted else None,
        accepted_at=accepted.accepted_at if accepted else None,
        text=accepted.text if accepted else None,
        rules=document.load(accepted.text, accepted.path) if accepted else document.load_default(),
        of_api=alerts.list_rules(connection),
    )


def save_rule(connection: Connection, definition: Mapping[str, Any], actor: str, now: datetime) -> bool:
    """Create or replace a rule beside those of the file; return whether it is new.

    `document.load_alert_rule` must have accepted the definition. Raises ConflictError, or InvalidFieldError for a
    source that does not exist, unless the stored rule has it: it may have been deleted since.
    """
    name, found = str(definition["name"]), overview(connection)
    refuse_rule_of_file(found, name)
    stored = [source for rule in found.of_api if rule.name == name for source in rule.definition.get("sources") or ()]
    sources.require(connection, [source for source in definition.get("sources") or () if source not in stored])
    if len(found.of_api) >= MAX_ALERT_RULES and all(rule.name != name for rule in found.of_api):
        raise ConflictError(f"The API has {MAX_ALERT_RULES} rules, which is the limit. Delete one first.")
    return alerts.save_rule(connection, name, definition, actor, now)


def refuse_rule_of_file(found: Overview, name: str) -> None:
    """Raise ConflictError if the file, or the defaults, have a rule of this name."""
    if name in found.names:
        where = f"It is in {found.path}" if found.path else "It is one of the defaults, which a rules file replaces"
        raise ConflictError(f"The rule {name!r} cannot be changed through the API. {where}; change it there.")


def get_accepted(connection: Connection) -> Row[str, str, datetime] | None:
    """Return `path`, `text` and `accepted_at` of the rules file that was accepted last; None if no file is in use."""
    table = rules_in_force.c
    return connection.execute(select(table.path, table.text, table.accepted_at)).one_or_none()


def store_accepted(connection: Connection, path: str, text: str) -> None:
    """Record that this file is in force. Writes nothing if it is recorded already."""
    statement = insert(rules_in_force).values(path=path, text=text, accepted_at=func.now())
    new, old = statement.excluded, rules_in_force.c
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[old.single],
            set_={"path": new.path, "text": new.text, "accepted_at": new.accepted_at},
            where=tuple_(old.path, old.text).is_distinct_from(tuple_(new.path, new.text)),
        )
    )


def delete_accepted(connection: Connection) -> None:
    """Record that no file is configured, so that the defaults are in force."""
    connection.execute(delete(rules_in_force))

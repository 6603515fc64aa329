"""The rules in force as anybody can tell from the database: for the API and for commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from shared.alerts import store as alerts
from shared.alerts.store import ApiRule
from shared.db import rules_in_force
from shared.domain.rules import Rules
from shared.rules import document


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What workers go by. `path` is the file that they accepted at `accepted_at`; None where the defaults hold.

    `of_api` are the rules that were made over the API; those whose name a rule of the file has are not in force.
    """

    path: str | None
    accepted_at: datetime | None
    text: str | None
    rules: Rules
    of_api: Sequence[ApiRule]

    @property
    def names(self) -> frozenset[str]:
        """The names that the file, or the defaults, have taken."""
        return frozenset(rule.name for rule in self.rules.alerts)


def overview(connection: Connection) -> Overview:
    """What is in force. Raises RulesError if a newer version accepted what this one does not."""
    accepted = rules_in_force.find(connection)
    return Overview(
        path=accepted.path if accepted else None,
        accepted_at=accepted.accepted_at if accepted else None,
        text=accepted.text if accepted else None,
        rules=document.read(accepted.text, accepted.path) if accepted else document.default(),
        of_api=alerts.rules_of_api(connection),
    )

"""The alert kind about the rules file."""

from collections.abc import Iterator, Sequence

from shared.alerts import formatting
from shared.alerts.kinds.base import Kind, Numbers, Snapshot
from shared.alerts.policy import Measurement, Subject
from shared.alerts.rules import RulesRefusedRule
from shared.vocabulary import AlertKind


class RulesRefused(Kind[RulesRefusedRule]):
    """Errors of a rules file that was rejected."""

    kind = AlertKind.RULES_REFUSED
    next_step = (
        "Run `tidings rules check`, which names the wrong line, and fix it. Until then, the previous rules stay in "
        "force."
    )
    counted = "errors"
    resolved = "The rules file is in force."

    def measure(
        self, snapshot: Snapshot, rules: Sequence[RulesRefusedRule]
    ) -> Iterator[tuple[RulesRefusedRule, Measurement]]:
        """Yield the number of errors for each rule; 0 if the file is in force."""
        errors = snapshot.rules_errors
        first = {"first": errors[0]} if errors else {}
        for rule in rules:
            yield rule, self.count(Subject(), len(errors), **first)

    def summarize(self, rule: RulesRefusedRule, subject: Subject, numbers: Numbers) -> str:  # noqa: ARG002
        """Return the number of errors, and the first of them."""
        count = formatting.count(numbers["errors"], "error")
        return f"The rules file has {count}, and the previous rules stay in force: {numbers['first']}"

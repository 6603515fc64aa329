"""The section `suppression` of the rules."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shared.rules import readers
from shared.rules.nodes import Node
from shared.rules.problems import WRONG, Report
from shared.rules.readers import Reader
from shared.suppression.policy import NEVER, SuppressionPolicy, Tenants
from shared.vocabulary import Classification, MailType

_OF_ALL: Mapping[str, Reader] = {
    "enabled": readers.boolean,
    "types": readers.some_of(MailType),
    "tenants": readers.one_of(Tenants),
}
# What is the sender's problem suppresses nobody, so that a rule cannot name it.
_CLASSIFICATIONS: Mapping[str, Reader] = {
    "classifications": readers.some_of(word for word in Classification if word not in NEVER)
}

FIELDS: Mapping[str, Mapping[str, Reader]] = {
    "hard_bounce": {**_OF_ALL, **_CLASSIFICATIONS, "days": readers.days},
    "complaint": {**_OF_ALL, "days": readers.days},
    "unsubscribe": {**_OF_ALL, "days": readers.days},
    "soft_bounce": {
        **_OF_ALL,
        **_CLASSIFICATIONS,
        "messages": readers.whole(1, 1000),
        "within_days": readers.whole(1, 365),
        "days": readers.several_days,
    },
}
"""The rules about suppression, and what can be said of each."""


def read(node: Node, report: Report) -> Any:
    """The policy: what is not said has its default. WRONG unless it is a mapping."""
    policy = SuppressionPolicy()
    known = {name: _section(getattr(policy, name), fields) for name, fields in FIELDS.items()}
    given = readers.fields(node, report, known)
    return WRONG if given is WRONG else replace(policy, **given)


def _section(default: Any, fields: Mapping[str, Reader]) -> Reader:
    def read_section(node: Node, report: Report) -> Any:
        given = readers.fields(node, report, fields)
        return WRONG if given is WRONG else replace(default, **given)

    return read_section

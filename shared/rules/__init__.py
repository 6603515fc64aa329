"""The rules that an operator can decide: one readable file, checked and read again while the system runs."""

from shared.rules.book import RuleBook
from shared.rules.document import default, default_text, definition, read, read_file, read_rule, text_of
from shared.rules.overview import Overview, overview
from shared.rules.problems import Problem, RulesError

__all__ = [
    "Overview",
    "Problem",
    "RuleBook",
    "RulesError",
    "default",
    "default_text",
    "definition",
    "overview",
    "read",
    "read_file",
    "read_rule",
    "text_of",
]

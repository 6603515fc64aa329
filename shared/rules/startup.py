"""Whether a process may start: not with a rules file that is wrong, unless another was accepted before."""

from pathlib import Path

from shared.postgres import engine
from shared.rules import document
from shared.rules.book import RuleBook
from shared.rules.problems import RulesError


def require(path: Path | None, database_url: str) -> None:
    """Raise RulesError, with all that is wrong, if there are no rules to start with.

    The database is asked only if the file is wrong.
    """
    if path is None:
        return
    try:
        document.read_file(path)
    except RulesError:
        database = engine.create(database_url, application="rules", pool_size=1)
        try:
            with database.connect() as connection:
                RuleBook(path).rules(connection)
        finally:
            database.dispose()
